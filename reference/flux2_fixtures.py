"""FLUX.2 transformer: one double block, one single block, and whole models of two geometries."""

import torch
from diffusers import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import (
    Flux2PosEmbed,
    Flux2SingleTransformerBlock,
    Flux2TransformerBlock,
)

from common import DTYPES, Rng, save

PART = "flux2"
HEADS, HEAD_DIM, AXES = 2, 16, [4, 4, 4, 4]
DIM = HEADS * HEAD_DIM

# Two geometries that share no number a program could have fixed by mistake.
MODEL_A = {"in_channels": 8, "num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2,
           "attention_head_dim": 16, "joint_attention_dim": 48, "axes_dims_rope": [4, 4, 4, 4],
           "mlp_ratio": 3.0, "rope_theta": 2000, "eps": 1e-6, "guidance_embeds": False,
           "timestep_guidance_channels": 256}
MODEL_B = MODEL_A | {"in_channels": 12, "num_layers": 1, "num_single_layers": 2, "num_attention_heads": 3,
                     "attention_head_dim": 12, "joint_attention_dim": 96, "axes_dims_rope": [2, 2, 2, 6],
                     "mlp_ratio": 2.0, "rope_theta": 5000, "timestep_guidance_channels": 64}


def picture_ids(rows, columns, t=0):
    axes = (torch.tensor([t]), torch.arange(rows), torch.arange(columns), torch.arange(1))
    return torch.cartesian_prod(*axes)


def text_ids(length):
    return torch.cartesian_prod(torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(length))


def blocks():
    img_ids, txt_ids = picture_ids(3, 5), text_ids(7)
    cos, sin = Flux2PosEmbed(theta=2000, axes_dim=AXES)(torch.cat([txt_ids, img_ids]))
    config = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM, "mlp_ratio": 3.0,
              "eps": 1e-6, "axes_dims_rope": AXES, "rope_theta": 2000}
    for dtype, suffix in DTYPES:
        rng = Rng("flux2/double_block")
        block = rng.fill(Flux2TransformerBlock(DIM, HEADS, HEAD_DIM)).to(dtype)
        img, txt = rng.normal(2, 15, DIM).to(dtype), rng.normal(2, 7, DIM).to(dtype)
        mod_img, mod_txt = (rng.normal(2, 6 * DIM, scale=0.6).to(dtype) for _ in range(2))
        out_txt, out_img = block(img, txt, mod_img, mod_txt, image_rotary_emb=(cos, sin))
        save(PART, "double_block" + suffix,
             {"hidden_states": img, "encoder_hidden_states": txt, "temb_mod_img": mod_img,
              "temb_mod_txt": mod_txt, "img_ids": img_ids, "txt_ids": txt_ids, "cos": cos, "sin": sin,
              "output_hidden_states": out_img, "output_encoder_hidden_states": out_txt},
             block, None if suffix else config)

        rng = Rng("flux2/single_block")
        block = rng.fill(Flux2SingleTransformerBlock(DIM, HEADS, HEAD_DIM)).to(dtype)
        x, mod = rng.normal(2, 22, DIM).to(dtype), rng.normal(2, 3 * DIM, scale=0.6).to(dtype)
        out = block(x, None, mod, image_rotary_emb=(cos, sin))
        save(PART, "single_block" + suffix,
             {"hidden_states": x, "temb_mod": mod, "img_ids": img_ids, "txt_ids": txt_ids,
              "cos": cos, "sin": sin, "output": out},
             block, None if suffix else config)


def whole(name, config, img_ids, txt_ids, dtypes):
    def inputs(rng, batch, dtype):
        hidden = rng.normal(batch, len(img_ids), config["in_channels"]).to(dtype)
        text = rng.normal(batch, len(txt_ids), config["joint_attention_dim"]).to(dtype)
        return hidden, text

    def run(model, hidden, text, timestep):
        return model(hidden_states=hidden, encoder_hidden_states=text, timestep=timestep, img_ids=img_ids,
                     txt_ids=txt_ids, guidance=None, return_dict=False)[0]

    for dtype, suffix in dtypes:
        rng = Rng(f"flux2/{name}")
        model = rng.fill(Flux2Transformer2DModel(**config)).to(dtype)
        hidden, text = inputs(rng, 1, dtype)
        # The pipeline hands over bf16(t) / 1000 in the latents' type; the model multiplies by 1000.
        steps = (torch.tensor([967.38404, 499.5]).to(dtype) / 1000).split(1)
        tensors = {"img_ids": img_ids, "txt_ids": txt_ids, "hidden_states": hidden, "encoder_hidden_states": text}
        for i, t in enumerate(steps):
            tensors |= {f"timestep_{i}": t, f"output_{i}": run(model, hidden, text, t)}
        hidden, text = inputs(rng, 2, dtype)
        t = torch.cat(steps)
        tensors |= {"batch_hidden_states": hidden, "batch_encoder_hidden_states": text, "batch_timestep": t,
                    "batch_output": run(model, hidden, text, t)}
        save(PART, name + suffix, tensors, model, None if suffix else config)


def make():
    blocks()
    whole("transformer_a", MODEL_A, picture_ids(3, 5), text_ids(7), DTYPES)
    # Target tokens and two reference pictures of other sizes, as an edit would send them.
    ids = torch.cat([picture_ids(6, 4), picture_ids(2, 3, t=10), picture_ids(1, 4, t=20)])
    whole("transformer_b", MODEL_B, ids, text_ids(12), DTYPES[:1])
