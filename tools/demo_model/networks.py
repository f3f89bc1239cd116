"""The networks of the demo model: diffusers' own VAE and transformer at tiny sizes, and a trainable Qwen3 text encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tokens import MAX_TOKENS

TEXT_LAYERS = (1, 2, 3)
TEXT = {"vocab_size": 2048, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}
TRANSFORMER = {"patch_size": 1, "in_channels": 128, "num_layers": 1, "num_single_layers": 6, "attention_head_dim": 64,
               "num_attention_heads": 4, "joint_attention_dim": 3 * TEXT["hidden_size"], "mlp_ratio": 3.0,
               "timestep_guidance_channels": 256, "axes_dims_rope": (16, 16, 16, 16), "rope_theta": 2000,
               "eps": 1e-6, "guidance_embeds": False}
VAE = {"block_out_channels": (32, 64, 96, 96), "layers_per_block": 1, "latent_channels": 32, "norm_num_groups": 8,
       "sample_size": 256, "mid_block_add_attention": True}
LATENT_GRID = 16


def make_vae():
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(**VAE)


def make_transformer():
    """The transformer, with an output of zero and gentle modulations at the start.

    Its attention is the one that Flux2KleinKVPipeline sets up, which `velocity` uses in both ways of reading references.
    """
    from diffusers import Flux2Transformer2DModel
    from diffusers.models.transformers.transformer_flux2 import Flux2KVAttnProcessor, Flux2KVParallelSelfAttnProcessor

    net = Flux2Transformer2DModel(**TRANSFORMER)
    for block in net.transformer_blocks:
        block.attn.set_processor(Flux2KVAttnProcessor())
    for block in net.single_transformer_blocks:
        block.attn.set_processor(Flux2KVParallelSelfAttnProcessor())
    nn.init.zeros_(net.proj_out.weight)
    nn.init.zeros_(net.norm_out.linear.weight)
    for part in (net.double_stream_modulation_img, net.double_stream_modulation_txt, net.single_stream_modulation):
        nn.init.normal_(part.linear.weight, std=0.02)
    return net


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        x32 = x.float()
        return self.weight * (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + TEXT["rms_norm_eps"])).to(x.dtype)


class TextAttention(nn.Module):
    def __init__(self):
        super().__init__()
        width, head = TEXT["hidden_size"], TEXT["head_dim"]
        self.q_proj = nn.Linear(width, TEXT["num_attention_heads"] * head, bias=False)
        self.k_proj = nn.Linear(width, TEXT["num_key_value_heads"] * head, bias=False)
        self.v_proj = nn.Linear(width, TEXT["num_key_value_heads"] * head, bias=False)
        self.o_proj = nn.Linear(TEXT["num_attention_heads"] * head, width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(head), RMSNorm(head)

    def forward(self, x, cos, sin, mask):
        heads = [p(x).unflatten(-1, (-1, TEXT["head_dim"])).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)]
        q, k, v = self.q_norm(heads[0]), self.k_norm(heads[1]), heads[2]
        q, k = (y * cos + torch.cat((-y[..., 32:], y[..., :32]), -1) * sin for y in (q, k))
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class TextFeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        width, inner = TEXT["hidden_size"], TEXT["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = TextAttention(), TextFeedForward()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(TEXT["hidden_size"]), RMSNorm(TEXT["hidden_size"])

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(TEXT["vocab_size"], TEXT["hidden_size"])
        self.layers = nn.ModuleList(TextLayer() for _ in range(TEXT["num_hidden_layers"]))
        self.norm = RMSNorm(TEXT["hidden_size"])


class TextEncoder(nn.Module):
    """Qwen3 with the parameter names of transformers' Qwen3ForCausalLM, returning the layers that the transformer reads.

    The last layer and the final norm are never read (as in FLUX.2 Klein, which reads 3 of 36 layers before the end).
    """

    def __init__(self):
        super().__init__()
        self.model = TextModel()
        nn.init.normal_(self.model.embed_tokens.weight, std=0.5)
        frequency = TEXT["rope_theta"] ** (-torch.arange(0, TEXT["head_dim"], 2).float() / TEXT["head_dim"])
        angle = torch.outer(torch.arange(MAX_TOKENS).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.register_buffer("causal", torch.ones(MAX_TOKENS, MAX_TOKENS).tril().bool(), persistent=False)

    def forward(self, ids, lengths):
        """ids [B, 64], lengths [B] (real tokens) -> [B, 64, 3 x hidden]."""
        real = torch.arange(MAX_TOKENS, device=ids.device)[None] < lengths[:, None]
        mask = (self.causal[None] & real[:, None])[:, None]
        x, kept = self.model.embed_tokens(ids), []
        for index, layer in enumerate(self.model.layers[:max(TEXT_LAYERS)]):
            x = layer(x, self.cos, self.sin, mask)
            if index + 1 in TEXT_LAYERS:
                kept.append(x)
        return torch.cat(kept, -1)


def pack(latents):
    """VAE latents [B, 32, H, W] -> tokens [B, H/2 * W/2, 128], channel order c*4 + row*2 + column."""
    b, c, h, w = latents.shape
    x = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, h // 2, w // 2)
    return x.flatten(2).transpose(1, 2)


def unpack(tokens, height: int = LATENT_GRID, width: int = LATENT_GRID):
    """The inverse of pack."""
    b, _, c = tokens.shape
    x = tokens.transpose(1, 2).reshape(b, c // 4, 2, 2, height, width)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, height * 2, width * 2)


def position_ids(device, height: int = LATENT_GRID, width: int = LATENT_GRID, references: int = 0):
    """Image and text position ids as the pipeline makes them; references of the same size follow the picture at t = 10, 20, ..."""
    times = torch.arange(references + 1) * 10
    image = torch.cartesian_prod(times, torch.arange(height), torch.arange(width), torch.arange(1))
    text = torch.cartesian_prod(torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(MAX_TOKENS))
    return image.to(device), text.to(device)


def velocity(net, x, text, sigma, ids, references=None, once: bool = False):
    """The transformer's prediction for x [B, tokens, 128]; references [B, R, tokens, 128] are clean.

    They follow it. With `once` they precede it and attend to themselves only, at t = 0, so that a cache could keep what is read of
    them: the network is diffusers' own in the mode in which Flux2KleinKVPipeline fills its cache.
    """
    count, how = x.shape[1], {}
    parts, places = [x], [ids[0]]
    if references is not None:
        parts.append(references.flatten(1, 2).to(x.dtype))
        if once:
            parts, places = parts[::-1], [ids[0][count:], ids[0][:count]]
            how = {"kv_cache_mode": "extract", "num_ref_tokens": parts[0].shape[1]}
    out = net(hidden_states=torch.cat(parts, 1), encoder_hidden_states=text, timestep=sigma, img_ids=torch.cat(places), txt_ids=ids[1],
              guidance=None, return_dict=False, **how)[0]
    return out[:, :count]


def parameter_count(*modules) -> float:
    """Millions of parameters."""
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e6
