"""The VAE: residual and attention blocks, encoder, decoder, and the latents' batch norm and layout."""

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D

from common import DTYPES, Rng, save, save_pair

PART = "vae"
GROUPS = 2  # fewer than channels everywhere: a norm over single channels would cancel the biases before it

# Four levels, as published: 8 pixels a latent. Widths that repeat need no shortcut, others do.
CONFIG_A = {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": [4, 8, 8, 12],
            "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 1, "norm_num_groups": GROUPS, "act_fn": "silu", "mid_block_add_attention": True,
            "batch_norm_eps": 1e-4, "patch_size": [2, 2], "sample_size": 64, "use_quant_conv": True,
            "use_post_quant_conv": True}
# Two residual blocks a level, and a decoder narrower than the encoder (the published small decoder).
CONFIG_B = CONFIG_A | {"layers_per_block": 2, "block_out_channels": [4, 8, 8, 8],
                       "decoder_block_out_channels": [4, 4, 8, 8], "latent_channels": 6}


def blocks():
    def resnet(name, channels_in, channels_out):
        def make(dtype):
            rng = Rng(f"vae/{name}")
            build = ResnetBlock2D(in_channels=channels_in, out_channels=channels_out, temb_channels=None,
                                  eps=1e-6, groups=GROUPS, groups_out=GROUPS)
            module = rng.fill(build).to(dtype)
            x = rng.normal(2, channels_in, 6, 9).to(dtype)
            return module, {"input": x, "output": module(x, None)}

        save_pair(PART, name, make, {"groups": GROUPS, "eps": 1e-6})

    def attention(dtype):
        rng = Rng("vae/attention")
        build = Attention(16, heads=1, dim_head=16, eps=1e-6, norm_num_groups=GROUPS, bias=True,
                          residual_connection=True, upcast_softmax=True, _from_deprecated_attn_block=True)
        module = rng.fill(build).to(dtype)
        x = rng.normal(2, 16, 5, 7).to(dtype)
        return module, {"input": x, "output": module(x)}

    def mid_block(dtype):
        rng = Rng("vae/mid_block")
        build = UNetMidBlock2D(in_channels=16, temb_channels=None, resnet_eps=1e-6, resnet_groups=GROUPS,
                               attention_head_dim=16, add_attention=True)
        module = rng.fill(build).to(dtype)
        x = rng.normal(1, 16, 4, 6).to(dtype)
        return module, {"input": x, "output": module(x)}

    resnet("resnet", 16, 16)
    resnet("resnet_shortcut", 8, 12)
    config = {"groups": GROUPS, "eps": 1e-6}
    save_pair(PART, "attention", attention, config)
    save_pair(PART, "mid_block", mid_block, config)


def normalise(vae, patches):
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(patches.dtype)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(patches.dtype)
    return (patches - mean) / std, patches * std + mean


def whole(name, config, dtypes):
    for dtype, suffix in dtypes:
        rng = Rng(f"vae/{name}")
        vae = rng.fill(AutoencoderKLFlux2(**config)).to(dtype)
        image = rng.uniform(2, 3, 32, 48, low=-1).to(dtype)
        posterior = vae.encode(image).latent_dist
        latents = rng.normal(2, config["latent_channels"], 4, 6, scale=1.3).to(dtype)
        tensors = {"image": image, "moments": posterior.parameters, "mean": posterior.mode(),
                   "latents": latents, "decoded": vae.decode(latents, return_dict=False)[0]}
        save(PART, name + suffix, tensors, vae, None if suffix else config)


def tiled():
    """Both directions by enable_tiling(), with tiles of 32 pixels: inner tiles, edges and slivers on both axes.

    The weights are those of autoencoder_a.
    """
    for dtype, suffix in DTYPES:
        rng = Rng("vae/autoencoder_a")
        vae = rng.fill(AutoencoderKLFlux2(**CONFIG_A)).to(dtype)
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = 32, 4
        image = rng.uniform(1, 3, 40, 56, low=-1).to(dtype)
        latents = rng.normal(1, 4, 5, 8, scale=1.3).to(dtype)
        save(PART, "tiled" + suffix, {"image": image, "mean": vae.encode(image).latent_dist.mode(),
                                      "latents": latents, "decoded": vae.decode(latents, return_dict=False)[0]})


def latents():
    """From VAE latents to tokens and back: patchify, batch norm, pack; the same words as the pipeline."""

    def make(dtype):
        rng = Rng("vae/latents")
        # Only the batch norm of this VAE is used; 32 latent channels as published.
        vae = AutoencoderKLFlux2(**(CONFIG_A | {"latent_channels": 32, "block_out_channels": [4, 4, 4, 4]}))
        vae = rng.fill(vae).to(dtype)
        z = rng.normal(1, 32, 6, 10, scale=1.8).to(dtype)
        patches = Flux2KleinPipeline._patchify_latents(z)
        normalised = normalise(vae, patches)[0]
        tokens = Flux2KleinPipeline._pack_latents(normalised)
        ids = Flux2KleinPipeline._prepare_latent_ids(normalised)
        unpacked = Flux2KleinPipeline._unpack_latents_with_ids(tokens, ids, 3, 5)
        denormalised = normalise(vae, unpacked)[1]
        bn = torch.nn.Module()
        bn.bn = vae.bn
        return bn, {"latents": z, "patchified": patches, "normalised": normalised, "tokens": tokens, "ids": ids[0],
                    "unpacked": unpacked, "denormalised": denormalised,
                    "unpatchified": Flux2KleinPipeline._unpatchify_latents(denormalised)}

    save_pair(PART, "latents", make, {"batch_norm_eps": 1e-4, "patch_size": [2, 2], "latent_channels": 32})


def make():
    blocks()
    whole("autoencoder_a", CONFIG_A, DTYPES)
    whole("autoencoder_b", CONFIG_B, DTYPES[:1])
    tiled()
    latents()
