"""One LoRA in the names of every program that writes them, and the weights it makes: tests/fixtures/lora.

All files of a group hold the same numbers for tiny_models.py's distilled model, so that one file of merged weights is
right for all of them. Where diffusers or PEFT read a file right, the merged weights have to be theirs; everywhere else
they are W + scale * (B A) as torch computes it. cases.json says which.
"""

import json
import shutil
import warnings

import peft
import torch
from diffusers import Flux2Transformer2DModel
from peft.tuners.loha.layer import make_weight
from safetensors.torch import load_file, save_file

from common import FIXTURES, Rng, save, write_json
from pipeline_fixtures import PROMPT, trace
from tiny_models import FOLDER as MODELS
from tiny_models import load

FOLDER = FIXTURES / "lora"
PART = "lora"
RANK = 3  # divisible by three: q, k and v still share the whole of A
FUSED = (("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj"))


def linears(module):
    return {k: m.weight for k, m in module.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in k}


def mflux_name(name):
    return name.replace("timestep_embedder.", "").replace("to_out.0", "to_out")


def bfl_names(names):
    """BFL's layers: the layers of diffusers that they are made of, and whether the halves change places."""
    out = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
           "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
           "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
           "final_layer.adaLN_modulation.1": "norm_out.linear"}
    out |= {f"{m}.lin": f"{m}.linear" for m in
            ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")}
    blocks = {n.split(".attn.")[0] for n in names if ".attn." in n}
    for i in range(sum(b.startswith("transformer_blocks.") for b in blocks)):
        b, d = f"transformer_blocks.{i}.", f"double_blocks.{i}."
        for stream, qkv, proj, ff in (("img", FUSED[0], "to_out.0", "ff"), ("txt", FUSED[1], "to_add_out", "ff_context")):
            out |= {f"{d}{stream}_attn.qkv": [f"{b}attn.{n}" for n in qkv], f"{d}{stream}_attn.proj": f"{b}attn.{proj}",
                    f"{d}{stream}_mlp.0": f"{b}{ff}.linear_in", f"{d}{stream}_mlp.2": f"{b}{ff}.linear_out"}
    for i in range(sum(b.startswith("single_") for b in blocks)):
        b = f"single_transformer_blocks.{i}.attn."
        out |= {f"single_blocks.{i}.linear1": b + "to_qkv_mlp_proj", f"single_blocks.{i}.linear2": b + "to_out"}
    return {k: ([v] if isinstance(v, str) else v, v == "norm_out.linear") for k, v in out.items()}


def half(tensor):
    return tensor.half().float()


def adapter(weights, name):
    """A and B of every linear layer, exact in float16; the fused q, k and v have one A."""
    out = {}
    for key, weight in weights.items():
        group = next((g[0] for g in FUSED if key.rsplit(".", 1)[-1] in g), None)
        shared = key.rsplit(".", 1)[0] + "." + group if group else key
        a = Rng(f"lora/{name}/{shared}/A").normal(RANK, weight.shape[1], scale=weight.shape[1] ** -0.5)
        b = Rng(f"lora/{name}/{key}/B").normal(weight.shape[0], RANK, scale=0.3)
        out[key] = (half(a), half(b))
    return out


def merged(weights, deltas, scale=1.0):
    return {k: (weights[k].double() + scale * d.double()).float() for k, d in deltas.items()}


def products(ab):
    return {k: b.double() @ a.double() for k, (a, b) in ab.items()}


def fused(ab):
    """The same under BFL's names: B of q, k and v stacked, the halves of the last modulation swapped."""
    out = {}
    for name, (sources, swap) in bfl_names(ab).items():
        b = torch.cat([ab[s][1] for s in sources])
        out[name] = (ab[sources[0]][0], torch.cat(b.chunk(2)[::-1]) if swap else b)
    return out


def spelled(ab, prefix="", a="lora_A.weight", b="lora_B.weight", alpha=None, separator="."):
    """Tensors of a file. With an alpha B is divided by the scale that it makes."""
    out = {}
    for name, (x, y) in ab.items():
        layer = prefix + name.replace(".", separator)
        out[f"{layer}.{a}"], out[f"{layer}.{b}"] = x, y / (alpha / RANK if alpha else 1.0)
        if alpha:
            out[f"{layer}.alpha"] = torch.tensor(alpha)
    return out


class Cases:
    def __init__(self):
        self.listed = []

    def file(self, name, tensors, part, expected, checked_with, metadata=None):
        path = FOLDER / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.half().contiguous() if v.ndim == 2 else v for k, v in tensors.items()}
        save_file(tensors, str(path), metadata)
        path.chmod(0o644)
        self.listed.append({"file": f"{name}.safetensors", "part": part,
                            "expected": expected, "checked_with": checked_with})
        return path


def close(got, want, but=()):
    for key, value in want.items():
        if key not in but and not torch.allclose(got[key], value, rtol=0, atol=2e-6):
            raise ValueError(f"{key} differs by {(got[key] - value).abs().max()}")


def diffusers_merge(path, scale=1.0):
    """A pipeline with the file merged into its transformer by diffusers."""
    pipe = load("tiny-distilled")
    pipe.load_lora_weights(str(path.parent), weight_name=path.name, low_cpu_mem_usage=False)
    pipe.fuse_lora(lora_scale=scale)
    pipe.unload_lora_weights()
    return pipe


def by_diffusers(path, want, but=()):
    """Compares with the file's weights as diffusers merges them; it may fuse q, k and v for that."""
    state = {k.replace(".base_layer", "").removesuffix(".weight"): v
             for k, v in diffusers_merge(path).transformer.state_dict().items()}
    for key in [k for k in state if k.endswith((".to_qkv", ".to_added_qkv"))]:
        names = FUSED[key.endswith(".to_added_qkv")]
        for name, rows in zip(names, state[key].chunk(3)):
            state[key.rsplit(".", 1)[0] + "." + name] = rows
    close(state, want, but)


# Files -----------------------------------------------------------------------------------------------------------

def lora_files(cases, ab, want):
    def add(name, tensors, checked_with="torch", but=(), metadata=None):
        path = cases.file(name, tensors, "transformer", "merged", checked_with, metadata)
        if checked_with == "diffusers":
            by_diffusers(path, want, but)
        return path

    bfl = fused(ab)
    swapped = ("norm_out.linear",)  # diffusers leaves its halves as BFL has them
    first = add("diffusers", spelled(ab, "transformer."), "diffusers")
    about = {"r": RANK, "lora_alpha": 6, "alpha_pattern": {"transformer_blocks.0.attn.to_q": 1.5}, "rank_pattern": {},
             "use_rslora": False, "use_dora": False, "lora_bias": False, "target_modules": sorted(ab)}
    scales = {k: 0.5 if k == "transformer_blocks.0.attn.to_q" else 2.0 for k in ab}
    add("diffusers_metadata", spelled({k: (a, b / scales[k]) for k, (a, b) in ab.items()}, "transformer."),
        "diffusers",
        metadata={"format": "pt", "lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in about.items()})})
    add("diffusers_bare", spelled(ab, a="lora_A.default.weight", b="lora_B.default.weight", alpha=1.5))
    add("diffusers_kohya", spelled(ab, "lora_unet_", "lora_down.weight", "lora_up.weight", 6.0, "_"))
    add("diffusers_old", spelled(ab, "transformer.", "lora.down.weight", "lora.up.weight"))
    add("mflux", spelled({mflux_name(k): v for k, v in ab.items()}, "transformer."))
    add("ai_toolkit", spelled(bfl, "diffusion_model."), "diffusers", swapped)
    add("bfl_peft", spelled(bfl, "base_model.model."), "diffusers", swapped)
    add("bfl_bare", spelled(bfl, alpha=1.5))
    add("bfl_transformer", spelled(bfl, "transformer."))
    add("comfyui", spelled(bfl, "model.diffusion_model.", "lora_down.weight", "lora_up.weight", 6.0))
    add("bfl_down_up", spelled(bfl, "diffusion_model.", "lora_down.weight", "lora_up.weight"))
    dropped = [k for k in ab if "modulation" in k] + ["norm_out.linear"]  # by diffusers, which warns
    add("kohya", spelled(bfl, "lora_unet_", "lora_down.weight", "lora_up.weight", 1.5, "_"), "diffusers", dropped)
    add("lycoris", spelled(ab, "lycoris_", "lora_down.weight", "lora_up.weight", 6.0, "_"))
    return first


def peft_folder(cases, ab):
    """What PEFT writes itself: alpha stands in adapter_config.json, and is divided by the root of the rank."""
    ab = {k: v for k, v in ab.items() if k.startswith("transformer_blocks.0.attn")}
    config = peft.LoraConfig(r=RANK, lora_alpha=6, use_rslora=True, target_modules=sorted(ab))
    model = peft.get_peft_model(load("tiny-distilled").transformer, config)
    for key, module in model.base_model.model.named_modules():
        if key in ab:
            module.lora_A["default"].weight.copy_(ab[key][0])
            module.lora_B["default"].weight.copy_(half(ab[key][1] / 4))
    folder = FOLDER / "peft"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    write_json(folder / "adapter_config.json", {k: config[k] for k in ("peft_type", "r", "lora_alpha", "use_rslora")})
    cases.file("peft/adapter_model", load_file(str(folder / "adapter_model.safetensors")), "transformer",
               "merged_peft", "peft")
    state = linears(model.merge_and_unload())
    save_expected("merged_peft", {k: state[k] for k in ab})


def text_files(cases, ab, want):
    save_expected("merged_text", want)
    for name, prefix, separator in (("text_diffusers", "text_encoder.", "."), ("text_kohya", "lora_te_", "_"),
                                    ("text_comfyui", "text_encoders.qwen3_4b.transformer.", "."),
                                    ("text_peft", "base_model.model.", "."), ("text_bare", "", ".")):
        named = {k.removeprefix("model.") if name == "text_bare" else k: v for k, v in ab.items()}
        if separator == "_":
            tensors = spelled(named, prefix, "lora_down.weight", "lora_up.weight", 6.0, "_")
        else:
            tensors = spelled(named, prefix)
        cases.file(name, tensors, "text_encoder", "merged_text", "torch")


def factor_pair(size):
    """Sides of the two factors of a LoKr."""
    first = next(f for f in (4, 3, 2, 1) if size % f == 0)
    return first, size // first


def lokr_tensors(sizes, name, decomposed):
    """Factors by layer and the matrices they make; where `decomposed`, the second is a product with an alpha."""
    files, deltas = {}, {}
    for layer, (out, columns) in sizes.items():
        rng = Rng(f"lora/{name}/{layer}")
        (r1, r2), (c1, c2) = factor_pair(out), factor_pair(columns)
        w1 = half(rng.normal(r1, c1, scale=0.3))
        tensors = {"lokr_w1": w1, "alpha": torch.tensor(1.5)}
        if decomposed and RANK < max(r2, c2) / 2:  # else PEFT expects it whole
            a, b = half(rng.normal(r2, RANK, scale=0.3)), half(rng.normal(RANK, c2, scale=0.3))
            tensors |= {"lokr_w2_a": a, "lokr_w2_b": b}
            w2, scale = a.double() @ b.double(), 1.5 / RANK
        else:
            w2, scale = half(rng.normal(r2, c2, scale=0.3)), 1.0
            tensors["lokr_w2"] = w2
        deltas[layer] = scale * torch.kron(w1.double(), w2.double())
        files |= {f"{layer}.{k}": v for k, v in tensors.items()}
    return files, deltas


def lokr_files(cases, weights):
    chosen = {k: v for k, v in weights.items() if k.startswith(("transformer_blocks.0.attn", "single_transformer_blocks.1"))}
    names = {n: s for n, (s, swap) in bfl_names(weights).items() if set(s) <= set(chosen)}
    sizes = {n: (sum(weights[s].shape[0] for s in sources), weights[sources[0]].shape[1])
             for n, sources in names.items()}
    files, deltas = lokr_tensors(sizes, "lokr_bfl", True)
    split = {}
    for name, sources in names.items():
        split |= dict(zip(sources, deltas[name].chunk(len(sources))))
    want = merged(weights, split)
    save_expected("merged_lokr_bfl", want)
    path = cases.file("lokr_ai_toolkit", {f"diffusion_model.{k}": v for k, v in files.items()}, "transformer",
                      "merged_lokr_bfl", "diffusers")
    by_diffusers(path, want)

    files, deltas = lokr_tensors({k: tuple(v.shape) for k, v in chosen.items()}, "lokr", False)
    want = merged(weights, deltas)
    save_expected("merged_lokr", want)
    for name, rename in (("lokr_bare", lambda k: k),
                         ("lokr_lycoris", lambda k: "lycoris_" + k.rsplit(".", 1)[0].replace(".", "_") + "." +
                          k.rsplit(".", 1)[1])):
        path = cases.file(name, {rename(k): v for k, v in files.items()}, "transformer", "merged_lokr", "diffusers")
        by_diffusers(path, want)


def loha_files(cases, weights):
    chosen = {k: v for k, v in weights.items() if k.startswith("transformer_blocks.0.ff")}
    files, deltas = {}, {}
    for layer, weight in chosen.items():
        rng = Rng(f"lora/loha/{layer}")
        out, columns = weight.shape
        f = [half(rng.normal(*s, scale=0.5)) for s in ((out, RANK), (RANK, columns)) * 2]
        name = "lycoris_" + layer.replace(".", "_")
        files |= {f"{name}.hada_w{1 + i // 2}_{'ab'[i % 2]}": x for i, x in enumerate(f)}
        files[f"{name}.alpha"] = torch.tensor(1.5)
        deltas[layer] = make_weight(*(x.double() for x in f), torch.tensor(0.5, dtype=torch.float64))
    save_expected("merged_loha", merged(weights, deltas))
    cases.file("loha", files, "transformer", "merged_loha", "peft")


def save_expected(name, tensors):
    path = FOLDER / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{k}.weight": v.contiguous() for k, v in tensors.items()}, str(path))
    path.chmod(0o644)


def picture(path, text_want):
    """A picture with two LoRAs: diffusers' own merging of the first at 0.8, torch's of the one for the text."""
    pipe = diffusers_merge(path, scale=0.8)
    for key, weight in linears(pipe.text_encoder).items():
        if key in text_want:
            weight.copy_(text_want[key])
    tensors = trace(pipe, [PROMPT], (42,), 4)
    save(PART, "picture", {k: tensors[k] for k in ("prompt_embeds", "latents_3", "image_u8")})
    plain = trace(load("tiny-distilled"), [PROMPT], (42,), 4)
    if (tensors["latents_3"] - plain["latents_3"]).abs().max() < 0.1:
        raise ValueError("the LoRAs change next to nothing")


def make():
    warnings.filterwarnings("ignore")
    shutil.rmtree(FOLDER, ignore_errors=True)
    cases, pipe = Cases(), load("tiny-distilled")
    weights, text = linears(pipe.transformer), linears(pipe.text_encoder)
    ab = adapter(weights, "transformer")
    want = merged(weights, products(ab))
    save_expected("merged", want)
    first = lora_files(cases, ab, want)
    peft_folder(cases, ab)
    lokr_files(cases, weights)
    loha_files(cases, weights)
    text_ab = adapter({k: v for k, v in text.items() if k.endswith(("q_proj", "down_proj"))}, "text_encoder")
    text_want = merged(text, products(text_ab))
    text_files(cases, text_ab, text_want)
    picture(first, text_want)

    rounded = Flux2Transformer2DModel.from_pretrained(MODELS / "tiny-sharded" / "transformer", torch_dtype=torch.bfloat16)
    chosen = {k: v for k, v in linears(rounded).items() if k.startswith("transformer_blocks.0.attn")}
    save_expected("merged_bf16", {k: v.bfloat16() for k, v in
                                  merged(chosen, {k: v for k, v in products(ab).items() if k in chosen}).items()})
    write_json(FOLDER / "cases.json", {"cases": cases.listed})


if __name__ == "__main__":
    make()
