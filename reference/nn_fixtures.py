"""Layers one by one, each made by the class that diffusers or transformers uses in FLUX.2 Klein."""

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_flux2 import (
    Flux2FeedForward,
    Flux2Modulation,
    Flux2PosEmbed,
    Flux2TimestepGuidanceEmbeddings,
)
from diffusers.models.upsampling import Upsample2D
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import (
    Qwen3MLP,
    Qwen3RMSNorm,
    Qwen3RotaryEmbedding,
    apply_rotary_pos_emb,
)

from common import Rng, save, save_pair

PART = "nn"


def one_input(name, build, *shape, scale=1.0, shift=0.0):
    """The common case: a module with one input and one output."""

    def make(dtype):
        rng = Rng(f"{PART}/{name}")
        module = rng.fill(build()).to(dtype)
        x = rng.normal(*shape, scale=scale, shift=shift).to(dtype)
        return module, {"input": x, "output": module(x)}

    save_pair(PART, name, make)


def feed_forward_and_norms():
    one_input("swiglu", lambda: Flux2FeedForward(24, 24, mult=3.0), 2, 5, 24)
    config = Qwen3Config(hidden_size=24, intermediate_size=40)
    one_input("qwen_mlp", lambda: Qwen3MLP(config), 2, 5, 24)
    # Inputs far from unit variance, so that a norm that is skipped cannot pass.
    one_input("rms_norm", lambda: torch.nn.RMSNorm(32, eps=1e-6), 2, 3, 4, 32, scale=3.0, shift=0.5)
    one_input("qwen_rms_norm", lambda: Qwen3RMSNorm(32, eps=1e-6), 2, 7, 32, scale=3.0, shift=0.5)
    one_input("linear", lambda: torch.nn.Linear(24, 40, bias=False), 2, 5, 24)
    one_input("linear_bias", lambda: torch.nn.Linear(24, 40, bias=True), 2, 5, 24)

    def layer_norm_modulated(dtype):
        rng = Rng("nn/layer_norm_modulated")
        x = rng.normal(2, 5, 24, scale=2.0, shift=0.7).to(dtype)
        shift, scale = rng.normal(2, 1, 24).to(dtype), rng.normal(2, 1, 24, scale=0.5).to(dtype)
        normed = torch.nn.LayerNorm(24, elementwise_affine=False, eps=1e-6)(x)
        return None, {"input": x, "shift": shift, "scale": scale, "normed": normed,
                      "output": (1 + scale) * normed + shift}

    save_pair(PART, "layer_norm_modulated", layer_norm_modulated)


def conditioning():
    def timestep_embedding(dtype):
        rng = Rng("nn/timestep_embedding")
        build = Flux2TimestepGuidanceEmbeddings(256, 24, bias=False, guidance_embeds=False)
        module = rng.fill(build).to(dtype)
        t = torch.tensor([1000.0, 967.38404, 908.143938, 767.199934, 500.5, 1.0, 0.0]).to(dtype)
        return module, {"timestep": t, "sinusoid": module.time_proj(t), "output": module(t, None)}

    def modulation(sets):
        def make(dtype):
            rng = Rng(f"nn/modulation_{sets}")
            module = rng.fill(Flux2Modulation(24, mod_param_sets=sets)).to(dtype)
            temb = rng.normal(2, 24).to(dtype)
            out = module(temb)
            tensors = {"input": temb, "output": out}
            for i, (shift, scale, gate) in enumerate(Flux2Modulation.split(out, sets)):
                tensors |= {f"shift_{i}": shift, f"scale_{i}": scale, f"gate_{i}": gate}
            return module, tensors

        return make

    def norm_out(dtype):
        rng = Rng("nn/norm_out")
        build = AdaLayerNormContinuous(24, 24, elementwise_affine=False, eps=1e-6, bias=False)
        module = rng.fill(build).to(dtype)
        x, temb = rng.normal(2, 5, 24, scale=2.0).to(dtype), rng.normal(2, 24).to(dtype)
        return module, {"input": x, "temb": temb, "output": module(x, temb)}

    save_pair(PART, "timestep_embedding", timestep_embedding)
    save_pair(PART, "modulation_2", modulation(2))
    save_pair(PART, "modulation_1", modulation(1))
    save_pair(PART, "norm_out", norm_out)


# Text rows, target rows, two reference pictures (t = 10 and 20), and positions near the limits.
POSITIONS = [
    [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 37], [0, 0, 0, 511],
    [0, 0, 1, 0], [0, 3, 2, 0], [0, 63, 17, 0], [0, 255, 255, 0],
    [10, 0, 0, 0], [10, 2, 5, 0], [20, 63, 63, 0], [30, 4095, 1023, 8191],
]


def rotary():
    ids = torch.tensor(POSITIONS)

    def flux_rope(name, axes):
        def make(dtype):
            rng = Rng(f"nn/{name}")
            cos, sin = Flux2PosEmbed(theta=2000, axes_dim=axes)(ids)
            x = rng.normal(2, len(ids), 3, sum(axes)).to(dtype)
            out = apply_rotary_emb(x, (cos, sin), sequence_dim=1)
            return None, {"ids": ids, "cos": cos, "sin": sin, "input": x, "output": out}

        save_pair(PART, name, make, {"theta": 2000, "axes_dims_rope": axes})

    flux_rope("rope", [8, 8, 8, 8])
    flux_rope("rope_uneven", [4, 4, 8, 16])
    save(PART, "rope_klein", dict(zip(("ids", "cos", "sin"), (ids, *Flux2PosEmbed(2000, [32] * 4)(ids)))),
         config={"theta": 2000, "axes_dims_rope": [32] * 4})

    def qwen_rope(dtype):
        rng = Rng("nn/qwen_rope")
        config = Qwen3Config(head_dim=16, hidden_size=32, num_attention_heads=4,
                             rope_parameters={"rope_type": "default", "rope_theta": 1e6})
        positions = torch.tensor([[0, 1, 2, 3, 31, 100, 511, 2047]])
        q, k = rng.normal(1, 4, 8, 16).to(dtype), rng.normal(1, 2, 8, 16).to(dtype)
        cos, sin = Qwen3RotaryEmbedding(config)(q, positions)
        rotated_q, rotated_k = apply_rotary_pos_emb(q, k, cos, sin)
        return None, {"positions": positions[0], "cos": cos[0], "sin": sin[0], "q": q, "k": k,
                      "output_q": rotated_q, "output_k": rotated_k}

    save_pair(PART, "qwen_rope", qwen_rope, {"theta": 1000000, "head_dim": 16})


def attention():
    def plain(dtype):
        rng = Rng("nn/attention")
        q, k, v = (rng.normal(2, 3, s, 16, scale=1.5).to(dtype) for s in (7, 11, 11))
        return None, {"q": q, "k": k, "v": v, "output": F.scaled_dot_product_attention(q, k, v)}

    def causal_padded(dtype):
        rng = Rng("nn/attention_causal_padded")
        q = rng.normal(2, 4, 9, 16, scale=1.5).to(dtype)
        k, v = (rng.normal(2, 2, 9, 16, scale=1.5).to(dtype) for _ in range(2))
        keep = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
        mask = torch.tril(torch.ones(9, 9, dtype=torch.bool))[None, None] & keep[:, None, None].bool()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return None, {"q": q, "k": k, "v": v, "attention_mask": keep, "output": out}

    def long(dtype):
        """More keys than one tile of a blocked kernel, and a count that no tile size divides."""
        rng = Rng("nn/attention_long")
        q, k, v = (rng.normal(1, 2, s, 8, scale=1.5).to(dtype) for s in (67, 419, 419))
        return None, {"q": q, "k": k, "v": v, "output": F.scaled_dot_product_attention(q, k, v)}

    save_pair(PART, "attention", plain)
    save_pair(PART, "attention_causal_padded", causal_padded)
    save_pair(PART, "attention_long", long)


def convolutions():
    one_input("conv2d_3x3", lambda: torch.nn.Conv2d(5, 7, 3, padding=1), 2, 5, 6, 9)
    one_input("conv2d_1x1", lambda: torch.nn.Conv2d(6, 10, 1), 2, 6, 5, 7)
    one_input("downsample", lambda: Downsample2D(6, use_conv=True, out_channels=6, padding=0, name="op"), 2, 6, 8, 10)
    one_input("upsample", lambda: Upsample2D(6, use_conv=True, out_channels=6), 2, 6, 3, 5)

    def group_norm_silu(dtype):
        rng = Rng("nn/group_norm_silu")
        module = rng.fill(torch.nn.GroupNorm(4, 16, eps=1e-6)).to(dtype)
        x = rng.normal(2, 16, 5, 7, scale=2.0, shift=0.6).to(dtype)
        normed = module(x)
        return module, {"input": x, "normed": normed, "output": F.silu(normed)}

    save_pair(PART, "group_norm_silu", group_norm_silu, {"groups": 4, "eps": 1e-6})


def make():
    feed_forward_and_norms()
    conditioning()
    rotary()
    attention()
    convolutions()
