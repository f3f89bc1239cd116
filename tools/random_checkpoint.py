#!/usr/bin/env python3
"""Writes a full-size FLUX.2 Klein checkpoint with random weights, to measure speed and memory without the real one.

Names, shapes, dtype (bfloat16) and files are those of the published checkpoints; the values are drawn so that
activations keep about unit size, and no bias is zero and no norm weight one, so that a lost one shows. Needs numpy, and
a tokenizer folder to copy (tokenizer.json, its config, and the chat template where that is a file of its own).

    tools/random_checkpoint.py --size 4b --tokenizer DIR_OR_GZ --out klein-4b-random
"""

import argparse
import gzip
import json
import pathlib
import shutil

import numpy as np

SHARD_BYTES = 5_000_000_000
# Random values are drawn once and repeated at shifting offsets: 16 GB in seconds. A prime, since no multiple of it below
# a matrix's size is a whole number of rows: with 1 << 24 rows of 4096 came back, and queries equalled keys.
POOL = (1 << 24) - 3

SIZES = {
    "4b": {"heads": 24, "double": 5, "single": 20, "text": 2560, "mlp": 9728, "tied": True},
    "9b": {"heads": 32, "double": 8, "single": 24, "text": 4096, "mlp": 12288, "tied": False},
}
TEXT_LAYERS, TEXT_HEADS, TEXT_KV_HEADS, HEAD, VOCABULARY = 36, 32, 8, 128, 151936
VAE_WIDTHS = (128, 256, 512, 512)
LATENT = 32
# Factors that let the picture hear the prompt: image tokens look for few keys, rather among the text, and what they
# find there counts. With all factors 1 attention is nearly a mean of all tokens: in a narrow network of 4B's depth, with
# 8 image tokens for each of text, another prompt changed the velocity by 1 %, with these by 45 %. Guidance would
# amplify nothing but rounding.
GAINS = {"attn.norm_q": 1.5, "attn.norm_added_q": 1.5, "attn.norm_added_k": 2.0, "attn.to_out.0": 3.0}


def transformer_shapes(size):
    """Name and shape of every weight of the transformer."""
    d, joint = size["heads"] * HEAD, 3 * size["text"]
    yield "time_guidance_embed.timestep_embedder.linear_1.weight", (d, 256)
    yield "time_guidance_embed.timestep_embedder.linear_2.weight", (d, d)
    for stream in ("img", "txt"):
        yield f"double_stream_modulation_{stream}.linear.weight", (6 * d, d)
    yield "single_stream_modulation.linear.weight", (3 * d, d)
    yield "x_embedder.weight", (d, 4 * LATENT)
    yield "context_embedder.weight", (d, joint)
    for i in range(size["double"]):
        block = f"transformer_blocks.{i}."
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            yield f"{block}attn.{name}.weight", (d, d)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            yield f"{block}attn.{name}.weight", (HEAD,)
        for name in ("ff", "ff_context"):
            yield f"{block}{name}.linear_in.weight", (6 * d, d)
            yield f"{block}{name}.linear_out.weight", (d, 3 * d)
    for i in range(size["single"]):
        block = f"single_transformer_blocks.{i}.attn."
        yield block + "to_qkv_mlp_proj.weight", (9 * d, d)
        yield block + "to_out.weight", (d, 4 * d)
        yield block + "norm_q.weight", (HEAD,)
        yield block + "norm_k.weight", (HEAD,)
    yield "norm_out.linear.weight", (2 * d, d)
    yield "proj_out.weight", (4 * LATENT, d)


def text_shapes(size):
    """Name and shape of every weight of the Qwen3 text encoder."""
    h, q, kv = size["text"], TEXT_HEADS * HEAD, TEXT_KV_HEADS * HEAD
    yield "model.embed_tokens.weight", (VOCABULARY, h)
    for i in range(TEXT_LAYERS):
        layer = f"model.layers.{i}."
        yield layer + "self_attn.q_proj.weight", (q, h)
        yield layer + "self_attn.k_proj.weight", (kv, h)
        yield layer + "self_attn.v_proj.weight", (kv, h)
        yield layer + "self_attn.o_proj.weight", (h, q)
        yield layer + "self_attn.q_norm.weight", (HEAD,)
        yield layer + "self_attn.k_norm.weight", (HEAD,)
        for name in ("gate_proj", "up_proj"):
            yield f"{layer}mlp.{name}.weight", (size["mlp"], h)
        yield layer + "mlp.down_proj.weight", (h, size["mlp"])
        yield layer + "input_layernorm.weight", (h,)
        yield layer + "post_attention_layernorm.weight", (h,)
    yield "model.norm.weight", (h,)
    if not size["tied"]:
        yield "lm_head.weight", (VOCABULARY, h)


def with_bias(name, shape):
    yield name + ".weight", shape
    yield name + ".bias", shape[:1]


def resnet_shapes(name, wide_in, wide_out):
    for norm, width in (("norm1", wide_in), ("norm2", wide_out)):
        yield from with_bias(f"{name}.{norm}", (width,))
    yield from with_bias(name + ".conv1", (wide_out, wide_in, 3, 3))
    yield from with_bias(name + ".conv2", (wide_out, wide_out, 3, 3))
    if wide_in != wide_out:
        yield from with_bias(name + ".conv_shortcut", (wide_out, wide_in, 1, 1))


def vae_shapes():
    """Name and shape of every weight of the autoencoder."""
    for side, outside, inside in (("encoder", 3, 2 * LATENT), ("decoder", 3, LATENT)):
        down = side == "encoder"
        widths = VAE_WIDTHS if down else VAE_WIDTHS[::-1]
        top = widths[0]
        yield from with_bias(f"{side}.conv_in", (top, outside if down else inside, 3, 3))
        width, blocks = top, "down_blocks" if down else "up_blocks"
        for i, wide in enumerate(widths):
            for j in range(2 if down else 3):
                yield from resnet_shapes(f"{side}.{blocks}.{i}.resnets.{j}", width, wide)
                width = wide
            if i < len(widths) - 1:
                sampler = "downsamplers" if down else "upsamplers"
                yield from with_bias(f"{side}.{blocks}.{i}.{sampler}.0.conv", (wide, wide, 3, 3))
        middle = VAE_WIDTHS[-1]
        for j in (0, 1):
            yield from resnet_shapes(f"{side}.mid_block.resnets.{j}", middle, middle)
        attention = f"{side}.mid_block.attentions.0."
        yield from with_bias(attention + "group_norm", (middle,))
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from with_bias(attention + name, (middle, middle))
        yield from with_bias(f"{side}.conv_norm_out", (width,))
        yield from with_bias(f"{side}.conv_out", (inside if down else outside, width, 3, 3))
    yield from with_bias("quant_conv", (2 * LATENT, 2 * LATENT, 1, 1))
    yield from with_bias("post_quant_conv", (LATENT, LATENT, 1, 1))
    yield "bn.running_mean", (4 * LATENT,)
    yield "bn.running_var", (4 * LATENT,)


class Values:
    """Random bfloat16 values, two bytes each."""

    def __init__(self, seed):
        values = np.random.default_rng(seed).standard_normal(POOL, dtype=np.float32)
        self.pools, self.normal, self.offset = {}, values, 0

    def draw(self, name, shape):
        count = int(np.prod(shape))
        gain = np.float32(next((g for key, g in GAINS.items() if key in name), 1))
        if len(shape) == 1:
            centre = "norm" in name and name.endswith("weight") or name == "bn.running_var"
            self.offset = (self.offset + 7919) % (POOL - count)
            return bfloat16(gain * (centre + np.float32(0.1) * self.normal[self.offset : self.offset + count]))
        scale = gain * np.float32(1 if "embed_tokens" in name else np.prod(shape[1:]) ** -0.5)
        if scale not in self.pools:
            self.pools = {scale: bfloat16(self.normal * scale)}
        pool = self.pools[scale]
        self.offset = (self.offset + 7919) % POOL
        return np.resize(np.roll(pool[: min(POOL, count)], self.offset % min(POOL, count)), count)


def bfloat16(values):
    return (values.view(np.uint32) + 0x8000 >> 16).astype(np.uint16)


def write_file(path, tensors, values):
    header, offset = {}, 0
    for name, shape in tensors:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            values.draw(name, shape).tofile(file)


def write_part(folder, stem, shapes, values, config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shards, used = [[]], 0
    for name, shape in shapes:
        size = 2 * int(np.prod(shape))
        if used and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append((name, shape))
        used += size
    if len(shards) == 1:
        return write_file(folder / f"{stem}.safetensors", shards[0], values)
    weight_map = {}
    for i, tensors in enumerate(shards, 1):
        file = f"{stem}-{i:05}-of-{len(shards):05}.safetensors"
        write_file(folder / file, tensors, values)
        weight_map |= {name: file for name, _ in tensors}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def copy_tokenizer(source, target):
    target.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (source / (name + ".gz")).exists():
            (target / name).write_bytes(gzip.decompress((source / (name + ".gz")).read_bytes()))
        elif name != "chat_template.jinja" or (source / name).exists():
            shutil.copy(source / name, target / name)


def configs(size):
    """The JSON files beside the weights."""
    text = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": size["text"],
            "intermediate_size": size["mlp"], "num_hidden_layers": TEXT_LAYERS, "num_attention_heads": TEXT_HEADS,
            "num_key_value_heads": TEXT_KV_HEADS, "head_dim": HEAD, "hidden_act": "silu", "rms_norm_eps": 1e-6,
            "rope_theta": 1000000, "max_position_embeddings": 40960, "attention_bias": False,
            "tie_word_embeddings": size["tied"], "vocab_size": VOCABULARY, "dtype": "bfloat16"}
    transformer = {"_class_name": "Flux2Transformer2DModel", "num_layers": size["double"],
                   "num_single_layers": size["single"], "num_attention_heads": size["heads"],
                   "attention_head_dim": HEAD, "joint_attention_dim": 3 * size["text"], "in_channels": 4 * LATENT,
                   "out_channels": None, "patch_size": 1, "mlp_ratio": 3.0, "timestep_guidance_channels": 256,
                   "axes_dims_rope": [32, 32, 32, 32], "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False}
    vae = {"_class_name": "AutoencoderKLFlux2", "act_fn": "silu", "in_channels": 3, "out_channels": 3,
           "latent_channels": LATENT, "block_out_channels": list(VAE_WIDTHS), "layers_per_block": 2,
           "norm_num_groups": 32, "down_block_types": ["DownEncoderBlock2D"] * 4,
           "up_block_types": ["UpDecoderBlock2D"] * 4, "mid_block_add_attention": True, "patch_size": [2, 2],
           "batch_norm_eps": 1e-4, "batch_norm_momentum": 0.1, "sample_size": 1024, "use_quant_conv": True,
           "use_post_quant_conv": True}
    return text, transformer, vae


def write(size, tokenizer, out, base=False, seed=0):
    """Makes the folder `out`, a checkpoint of the named size."""
    size, values = SIZES[size], Values(seed)
    text, transformer, vae = configs(size)
    index = {"_class_name": "Flux2KleinPipeline", "_diffusers_version": "0.37.0.dev0",
             "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
             "text_encoder": ["transformers", "Qwen3ForCausalLM"],
             "tokenizer": ["transformers", "Qwen2TokenizerFast"],
             "transformer": ["diffusers", "Flux2Transformer2DModel"], "vae": ["diffusers", "AutoencoderKLFlux2"]}
    if not base:
        index["is_distilled"] = True
    out.mkdir(parents=True)
    (out / "model_index.json").write_text(json.dumps(index, indent=2))
    (out / "scheduler").mkdir()
    (out / "scheduler/scheduler_config.json").write_text(json.dumps({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0,
        "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
        "max_image_seq_len": 4096, "time_shift_type": "exponential"}, indent=2))
    copy_tokenizer(tokenizer, out / "tokenizer")
    write_part(out / "transformer", "diffusion_pytorch_model", transformer_shapes(size), values, transformer)
    write_part(out / "text_encoder", "model", text_shapes(size), values, text)
    write_part(out / "vae", "diffusion_pytorch_model", vae_shapes(), values, vae)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="4b")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="folder with tokenizer.json or .json.gz")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to make; must not exist")
    parser.add_argument("--base", action="store_true", help="leave is_distilled out of model_index.json")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.size, options.tokenizer, options.out, options.base, options.seed)


if __name__ == "__main__":
    main()
