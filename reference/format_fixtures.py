"""One tiny Klein in every published file format: tests/fixtures/formats.

Each file is written by code other than ours (safetensors, gguf, torch, comfy-kitchen, MLX), under the names
that the published files have, and beside it lies what that same code decodes it to. Matrices repeat four rows
and differ in one number a row, so that gzip makes small files of them and a row out of place is still seen.
Needs requirements-formats.txt beside requirements.txt.
"""

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from common import FIXTURES, Rng, write_json
from format_codecs import (fp8, int8_rows, int8_whole, k_quant, layers_metadata, marked, mixed, mxfp8, nvfp4, one_type,
                           quantized)
from format_names import bfl_transformer, bfl_vae, llama_text, mflux_names, transformer_back

FOLDER = FIXTURES / "formats"
PART = "formats"
LATENT = 16
HIDDEN = 256  # of the text encoder: the smallest that ggml's k-quants can hold

TRANSFORMER = {"patch_size": 1, "in_channels": 4 * LATENT, "num_layers": 1, "num_single_layers": 1,
               "attention_head_dim": 16, "num_attention_heads": 4, "joint_attention_dim": HIDDEN,
               "timestep_guidance_channels": 64, "axes_dims_rope": [4, 4, 4, 4], "mlp_ratio": 3.0, "rope_theta": 2000,
               "guidance_embeds": False}
WIDE = TRANSFORMER | {"attention_head_dim": 64, "axes_dims_rope": [16] * 4}
TEXT_ENCODER = {"vocab_size": 64, "hidden_size": HIDDEN, "intermediate_size": 256, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6,
                "rope_theta": 1e6, "tie_word_embeddings": True, "max_position_embeddings": 128}
VAE = {"in_channels": 3, "out_channels": 3, "latent_channels": LATENT, "block_out_channels": [32, 64],
       "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
       "layers_per_block": 1, "norm_num_groups": 32, "mid_block_add_attention": True, "batch_norm_eps": 1e-4,
       "sample_size": 1024}
SMALL_DECODER = VAE | {"decoder_block_out_channels": [32, 32]}

MODEL, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
TEXT_PREFIX = "text_encoders.qwen3_4b.transformer."


# The model -------------------------------------------------------------------------------------------------------

def fill(module, name):
    """bfloat16 weights: four rows over and over, with one number of its own in every row."""
    rng = Rng(f"{PART}/{name}").fill(module)
    for key, p in list(module.named_parameters()):
        if p.ndim >= 2:
            rng = Rng(f"{PART}/{name}/{key}")
            rows = p.reshape(p.shape[0], -1)
            count, columns = rows.shape
            # Convolutions repeat along a row, too. A row's own number is small: scales stay the same.
            base = rng.normal(4, 61 if p.ndim == 4 else columns, scale=columns ** -0.5).repeat(1, columns)[:, :columns]
            rows = base[torch.arange(count) % 4].clone()
            at = (7 * torch.arange(count) + 3) % columns
            rows[torch.arange(count), at] = rng.normal(count, scale=0.1 * columns ** -0.5)
            p.copy_(rows.reshape(p.shape))
    return module.to(torch.bfloat16)


def tensors_of(module):
    return {k: v.clone().contiguous() for k, v in module.state_dict().items()}


def make_models():
    text = Qwen3ForCausalLM(Qwen3Config(**TEXT_ENCODER))
    models = {"transformer": fill(Flux2Transformer2DModel(**TRANSFORMER), "transformer"),
              "wide": fill(Flux2Transformer2DModel(**WIDE), "wide"),
              "text_encoder": fill(text, "text_encoder"),
              "vae": fill(AutoencoderKLFlux2(**VAE), "vae"),
              "small_decoder": fill(AutoencoderKLFlux2(**SMALL_DECODER), "small_decoder")}
    return models, {name: canonical(tensors_of(m)) for name, m in models.items()}


def canonical(tensors):
    return {k: v for k, v in tensors.items() if k not in ("lm_head.weight", "bn.num_batches_tracked")}


def prefixed(prefix, tensors):
    return {prefix + k: v for k, v in tensors.items()}


# Writing ---------------------------------------------------------------------------------------------------------

class Cases:
    """Collects cases.json and writes the packed files, each expectation once."""

    def __init__(self, base):
        self.base, self.listed, self.expected = base, [], {}

    def pack(self, source, name):
        path = FOLDER / (name + ".gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(Path(source).read_bytes(), 9, mtime=0))
        path.chmod(0o644)

    def file(self, name, tensors, parts, metadata=None):
        """A safetensors file; `parts` as for add()."""
        with tempfile.TemporaryDirectory() as temp:
            path = Path(temp) / "x"
            save_file({k: v.contiguous() for k, v in tensors.items()}, str(path), metadata)
            self.pack(path, name)
        if parts:
            self.add(name, parts)

    def expect(self, name, model, decoded):
        """Where `decoded` differs from the bfloat16 model, as float32; returns the names of both files."""
        base = self.base[model]
        assert decoded.keys() == base.keys(), decoded.keys() ^ base.keys()
        for k, v in decoded.items():
            assert v.shape == base[k].shape, (name, k, v.shape, base[k].shape)
        changed = {k: v.float() for k, v in decoded.items() if not torch.equal(v.float(), base[k].float())}
        files = [f"expected/{model}.safetensors"]
        if not changed:
            return files
        if model == "wide":  # read by one case alone: everything in one file
            changed, files = {k: v.float() for k, v in decoded.items()}, []
        if name not in self.expected:
            self.expected[name] = changed
            self.file(f"expected/{name}.safetensors", changed, None)
        else:
            assert all(torch.equal(self.expected[name][k], v) for k, v in changed.items()), name
        return files + [f"expected/{name}.safetensors"]

    def add(self, name, parts, **more):
        """`parts`: (kind, convention, prefix, formats, expected files)."""
        keys = ("kind", "convention", "prefix", "formats", "expected")
        self.listed.append({"path": name, "parts": [dict(zip(keys, p)) for p in parts]} | more)


def gguf_file(cases, name, tensors, types, arch, metadata):
    """Writes tensors as the ggml types that `types(name, array)` picks; returns what gguf decodes them to."""
    decoded, used = {}, {}
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp) / "x"
        writer = gguf.GGUFWriter(path, arch or "none")
        for key, value in metadata.items():
            (writer.add_uint32 if isinstance(value, int) else writer.add_string)(key, value)
        for key, tensor in tensors.items():
            array = tensor.float().numpy()
            kind = types(key, array)
            data = k_quant(kind, key, array) if kind.name.endswith("_K") else gguf.quants.quantize(array, kind)
            writer.add_tensor(key, data, raw_dtype=kind)
            decoded[key] = torch.from_numpy(np.array(gguf.quants.dequantize(data, kind))).reshape(tensor.shape)
            used[kind.name] = used.get(kind.name, 0) + 1
        if arch is None:  # stable-diffusion.cpp writes no metadata at all
            writer.kv_data[0].clear()
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        cases.pack(path, name)
    return decoded, used


# Formats ---------------------------------------------------------------------------------------------------------

def block_linears(bfl):
    return [k for k in bfl if k.endswith(".weight") and bfl[k].ndim == 2
            and k.startswith(("double_blocks.", "single_blocks."))]


def text_linears(t):
    return [k for k in t if "_proj." in k]


def safetensors_transformers(cases):
    bfl = bfl_transformer(cases.base["transformer"])
    linears = block_linears(bfl)

    def write(name, codec, formats, expected, prefix="", metadata=None, extra=None, names=linears):
        stored, decoded = quantized(bfl, names, codec)
        expected = cases.expect(expected, "transformer", transformer_back(decoded))
        cases.file(name, prefixed(prefix, stored | (extra or {})),
                   [("transformer", "BFL", prefix, formats, expected)], metadata)

    count = len(linears)
    write("bfl.safetensors", None, {}, "transformer", names=[])
    write("bfl_prefixed.safetensors", None, {}, "transformer", prefix=MODEL, names=[])
    write("bfl_fp8.safetensors", fp8(), {"FP8 E4M3": count}, "fp8", metadata=layers_metadata(linears, "float8_e4m3fn"))
    write("comfy_fp8_scale_weight.safetensors", fp8(spelling=("scale_weight", "scale_input"), shape=(1,)),
          {"FP8 E4M3": count}, "fp8", extra={"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)})
    write("comfy_fp8.safetensors", marked(fp8(spelling=("weight_scale",)), "float8_e4m3fn"), {"FP8 E4M3": count}, "fp8",
          prefix=MODEL)
    for dtype, short, shown in ((torch.float8_e4m3fn, "e4m3", "FP8 E4M3"), (torch.float8_e5m2, "e5m2", "FP8 E5M2")):
        cast = [k for k in bfl if bfl[k].ndim == 2 or short == "e4m3"]
        write(f"fp8_{short}_cast.safetensors", lambda w: ({"weight": w.to(dtype)}, w.to(dtype).float()),
              {shown: len([k for k in cast if k.endswith("weight")])}, f"{short}_cast",
              names=[k for k in cast if k.endswith("weight")])
    write("bfl_nvfp4.safetensors", lambda w: (nvfp4(w)[0] | {"input_scale": torch.tensor(0.01)}, nvfp4(w)[1]),
          {"NVFP4": count}, "nvfp4", metadata=layers_metadata(linears, "nvfp4"))
    write("comfy_nvfp4.safetensors", marked(nvfp4, "nvfp4"), {"NVFP4": count}, "nvfp4")
    write("comfy_mxfp8.safetensors", marked(mxfp8, "mxfp8"), {"MXFP8": count}, "mxfp8")
    write("comfy_int8_rows.safetensors", marked(int8_rows, "int8_tensorwise"), {"INT8": count}, "int8_rows")
    write("comfy_int8_whole.safetensors", marked(int8_whole, "int8_tensorwise"), {"INT8": count}, "int8_whole")


def gguf_transformers(cases):
    bfl = bfl_transformer(cases.base["transformer"])
    for short in ("Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "F16", "BF16"):
        kind = gguf.GGMLQuantizationType[short]
        plain = short == "Q4_0"  # one as stable-diffusion.cpp writes them: no metadata at all
        name = f"transformer-{short}.gguf"
        decoded, used = gguf_file(cases, name, bfl, one_type(kind), None if plain else "flux",
                                  {} if plain else {"general.quantization_version": 2})
        expected = cases.expect(f"gguf_{short.lower()}", "transformer", transformer_back(decoded))
        cases.add(name, [("transformer", "BFL", "", used, expected)])
    wide = bfl_transformer(cases.base["wide"])
    decoded, used = gguf_file(cases, "transformer-Q4_K_M.gguf", wide, mixed, "flux", {"general.file_type": 15})
    expected = cases.expect("gguf_wide_k", "wide", transformer_back(decoded))
    cases.add("transformer-Q4_K_M.gguf", [("transformer", "BFL", "", used, expected)])


def gguf_text_encoder(cases):
    hf = cases.base["text_encoder"]
    text = llama_text(hf, TEXT_ENCODER["num_hidden_layers"])
    back = dict(zip(text, hf))
    head = {"qwen3.block_count": 2, "qwen3.embedding_length": HIDDEN, "general.name": "Tiny"}
    decoded, used = gguf_file(cases, "qwen3-Q4_K_M.gguf", text, mixed, "qwen3", head)
    expected = cases.expect("gguf_qwen3_k", "text_encoder", {back[k]: v for k, v in decoded.items()})
    cases.add("qwen3-Q4_K_M.gguf", [("text encoder", "llama.cpp", "", used, expected)])


def text_encoders(cases):
    hf = cases.base["text_encoder"]
    plain = ["expected/text_encoder.safetensors"]
    cases.file("qwen3.safetensors", hf, [("text encoder", "transformers", "", {}, plain)])
    head = {"lm_head.weight": hf["model.embed_tokens.weight"].flip(0)}  # as in Qwen3 8B
    linears = text_linears(hf)
    for name, codec, shown in (("fp8mixed", marked(fp8(spelling=("weight_scale",)), "float8_e4m3fn"), "FP8 E4M3"),
                               ("fp4", marked(nvfp4, "nvfp4"), "NVFP4")):
        stored, decoded = quantized(hf, linears, codec)
        expected = cases.expect(f"qwen3_{name}", "text_encoder", decoded)
        cases.file(f"qwen3_{name}.safetensors", stored | (head if name == "fp8mixed" else {}),
                   [("text encoder", "transformers", "", {shown: len(linears)}, expected)])


def vaes(cases):
    for model, name in (("vae", "ae"), ("small_decoder", "full_encoder_small_decoder")):
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in bfl_vae(cases.base[model]).items()}
        cases.file(f"{name}.safetensors", tensors, [("autoencoder", "BFL", "", {}, [f"expected/{model}.safetensors"])])
    plain = ["expected/vae.safetensors"]
    whole = bfl_vae(cases.base["vae"])
    lifted = {k.removeprefix("encoder.") if k.startswith("encoder.quant_conv") else
              k.removeprefix("decoder.") if k.startswith("decoder.post_quant_conv") else k: v for k, v in whole.items()}
    cases.file("comfy_vae.safetensors", prefixed("vae.", lifted), [("autoencoder", "BFL", "vae.", {}, plain)])


def all_in_one(cases):
    tensors = (prefixed(MODEL, bfl_transformer(cases.base["transformer"]))
               | prefixed(TEXT_PREFIX, cases.base["text_encoder"])
               | {"text_encoders.qwen3_4b.logit_scale": torch.tensor(4.6055)}
               | prefixed(VAE_PREFIX, bfl_vae(cases.base["vae"])))
    cases.file("comfy_checkpoint.safetensors", tensors, [
        ("transformer", "BFL", MODEL, {}, ["expected/transformer.safetensors"]),
        ("text encoder", "transformers", TEXT_PREFIX, {}, ["expected/text_encoder.safetensors"]),
        ("autoencoder", "BFL", VAE_PREFIX, {}, ["expected/vae.safetensors"])])


def diffusers_folders(cases, models):
    """As save_pretrained writes them, whole and in shards."""
    for name, shards in (("diffusers", None), ("diffusers_sharded", {"transformer": "300KB", "text_encoder": "600KB"})):
        with tempfile.TemporaryDirectory() as temp:
            parts = {"transformer": ("transformer", "diffusers"), "text_encoder": ("text encoder", "transformers")}
            if not shards:
                parts["vae"] = ("autoencoder", "diffusers")
            for part in parts:
                models[part].save_pretrained(Path(temp) / part, **({"max_shard_size": shards[part]} if shards else {}))
            pack_folder(cases, Path(temp), name)
        for part, (kind, convention) in parts.items():
            cases.add(f"{name}/{part}", [(kind, convention, "", {}, [f"expected/{part}.safetensors"])])


def pack_folder(cases, folder, name):
    for path in sorted(folder.rglob("*")):
        target = f"{name}/{path.relative_to(folder).as_posix()}"
        if path.suffix == ".safetensors":
            cases.pack(path, target)
        elif path.suffix == ".json" and path.name != "generation_config.json":
            data = json.loads(path.read_text(encoding="utf-8"))
            data.pop("_name_or_path", None)
            write_json(FOLDER / target, data)


def to_mlx(tensor):
    """MLX's array of the same bfloat16 numbers."""
    return mx.array(tensor.float().numpy()).astype(mx.bfloat16)


def mflux_tensors(part, tensors, bits):
    """What mflux holds after quantizing every linear layer and the embedding, and what that decodes to."""
    stored, decoded, packed = {}, {}, 0
    for (key, original), (name, v) in zip(tensors.items(), mflux_names(part, tensors).items()):
        array = to_mlx(v)
        if bits is None or v.ndim != 2:
            stored[name] = array
            decoded[key] = original
            continue
        w, scales, biases = mx.quantize(array, group_size=64, bits=bits)
        stem = name.removesuffix("weight")
        stored |= {name: w, stem + "scales": scales, stem + "biases": biases}
        exact = mx.dequantize(w, scales.astype(mx.float32), biases.astype(mx.float32), group_size=64, bits=bits)
        decoded[key] = torch.from_numpy(np.array(exact))
        packed += 1
    if part == "text_encoder":
        stored["rotary_emb.inv_freq"] = mx.arange(0, 32).astype(mx.float32)
    return stored, decoded, packed


def mflux_folders(cases):
    """As mflux-save lays them out; two of them as they look after a detour: without metadata, and in two shards."""
    for bits, variant in ((3, ""), (4, ""), (5, ""), (6, ""), (8, ""), (None, ""), (4, "_bare"), (8, "_shards")):
        name = f"mflux_{bits or 'bf16'}{variant}"
        for part, kind in (("transformer", "transformer"), ("text_encoder", "text encoder"), ("vae", "autoencoder")):
            if part != "transformer" and (variant or bits not in (4, None)):
                continue
            stored, decoded, packed = mflux_tensors(part, cases.base[part], bits)
            expected = cases.expect(f"mflux_{bits}_{part}", part, decoded)
            about = {"quantization_level": str(bits), "mflux_version": "0.18.0"}
            keys = sorted(stored)
            shards = [keys[:len(keys) // 2], keys[len(keys) // 2:]] if variant == "_shards" else [keys]
            weight_map = {}
            for i, shard in enumerate(shards):
                with tempfile.TemporaryDirectory() as temp:
                    path = Path(temp) / "x.safetensors"
                    mx.save_safetensors(str(path), {k: stored[k] for k in shard}, None if variant == "_bare" else about)
                    cases.pack(path, f"{name}/{part}/{i}.safetensors")
                weight_map |= {k: f"{i}.safetensors" for k in shard}
            if variant != "_bare":
                write_json(FOLDER / name / part / "model.safetensors.index.json",
                           {"metadata": about, "weight_map": weight_map})
            formats = {f"affine {bits}": packed} if bits else {}
            cases.add(f"{name}/{part}", [(kind, "mflux", "", formats, expected)],
                      quantization_level=None if variant == "_bare" else str(bits))


def make():
    shutil.rmtree(FOLDER, ignore_errors=True)
    models, base = make_models()
    cases = Cases(base)
    for name in base.keys() - {"wide"}:
        cases.file(f"expected/{name}.safetensors", base[name], None)
    safetensors_transformers(cases)
    gguf_transformers(cases)
    gguf_text_encoder(cases)
    text_encoders(cases)
    vaes(cases)
    all_in_one(cases)
    diffusers_folders(cases, models)
    mflux_folders(cases)
    for name, text in (("lora", "a LoRA"), ("flux1", "FLUX.1"), ("flux2_dev", "FLUX.2 [dev] or FLUX.1 [dev]")):
        key = {"lora": "diffusion_model.single_blocks.0.linear1.lora_A.weight", "flux1": "vector_in.in_layer.weight",
               "flux2_dev": "guidance_in.in_layer.weight"}[name]
        cases.file(f"refused_{name}.safetensors", {key: torch.ones(4, 4)}, None)
        cases.add(f"refused_{name}.safetensors", [],
                  refused=f"expected weights of FLUX.2 [klein], got {text}, which has {key}")
    write_json(FOLDER / "cases.json", {"cases": cases.listed})


if __name__ == "__main__":
    make()
