"""Sixteen pixel values that diffusers publishes, reproduced, with all that is needed to meet them again.

The case is test_image_input of diffusers' tests/pipelines/flux2/test_pipeline_flux2_klein.py: a tiny
Flux2KleinPipeline with default initialisation after torch.manual_seed(0), classifier-free guidance and a
black reference picture. Its text encoder has the full vocabulary (2.4 million parameters), so the fixture
keeps the prompt embeddings instead. The VAE has one level (one pixel a latent), one latent channel, one
norm group and no quant convolutions; the scheduler has no dynamic shift.
"""

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from common import save

PART = "pipeline"
PUBLISHED = [0.8255048, 0.66054785, 0.6643694, 0.67462724, 0.5494932, 0.3480271, 0.52535003, 0.44510138,
             0.23549396, 0.21372932, 0.21166152, 0.63198495, 0.49942136, 0.39147034, 0.49156153, 0.3713916]

# The tiny test tokenizer: Qwen's vocabulary with the Qwen2-VL chat template (a system turn, no thinking
# block), padded on the LEFT to 64. BEFORE + prompt + AFTER are its ids.
BEFORE = [151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198]
DOG = [64, 5562, 374, 27966]  # "a dog is dancing"
AFTER = [151645, 198, 151644, 77091, 198]
PAD, LENGTH = 151643, 64

TRANSFORMER = {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
               "num_attention_heads": 2, "joint_attention_dim": 16, "timestep_guidance_channels": 256,
               "axes_dims_rope": [4, 4, 4, 4], "guidance_embeds": False}
VAE = {"sample_size": 32, "in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"],
       "up_block_types": ["UpDecoderBlock2D"], "block_out_channels": [4], "layers_per_block": 1,
       "latent_channels": 1, "norm_num_groups": 1, "use_quant_conv": False, "use_post_quant_conv": False}
TEXT_ENCODER = {"intermediate_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 512}


def prompt_embeds(prompt_ids):
    """Hidden state 1 of the two-layer Qwen3, as the pipeline is told to use."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**TEXT_ENCODER)).eval()
    ids = BEFORE + prompt_ids + AFTER
    padding = LENGTH - len(ids)
    ids = torch.tensor([[PAD] * padding + ids])
    mask = torch.tensor([[0] * padding + [1] * (LENGTH - padding)])
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return output.hidden_states[1]


def tiny_pipeline():
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(**TRANSFORMER)
    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(**VAE)
    pipe = Flux2KleinPipeline(scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, transformer=transformer,
                              text_encoder=None, tokenizer=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe, embeds, negative):
    out = {"prompt_embeds": embeds, "negative_prompt_embeds": negative}
    prepare, prepare_image, decode = pipe.prepare_latents, pipe.prepare_image_latents, pipe.vae.decode

    def keep_noise(*args, **kwargs):
        out["noise_tokens"], out["latent_ids"] = prepare(*args, **kwargs)
        return out["noise_tokens"], out["latent_ids"]

    def keep_reference(*args, **kwargs):
        out["reference_tokens"], out["reference_ids"] = prepare_image(*args, **kwargs)
        return out["reference_tokens"], out["reference_ids"]

    def keep_decoder_input(latents, **kwargs):
        out["decoder_input"] = latents
        return decode(latents, **kwargs)

    def keep_step(_, i, t, tensors):
        out[f"latents_{i}"] = tensors["latents"]
        return {}

    pipe.prepare_latents, pipe.prepare_image_latents, pipe.vae.decode = keep_noise, keep_reference, keep_decoder_input
    image = pipe(image=Image.new("RGB", (64, 64)), prompt_embeds=embeds, negative_prompt_embeds=negative,
                 generator=torch.Generator("cpu").manual_seed(0), num_inference_steps=2, guidance_scale=4.0,
                 height=8, width=8, output_type="np", callback_on_step_end=keep_step).images
    out["image"] = torch.from_numpy(image)
    out["sigmas"] = pipe.scheduler.sigmas
    return out


def make():
    pipe = tiny_pipeline()
    tensors = run(pipe, prompt_embeds(DOG), prompt_embeds([]))
    values = tensors["image"].flatten()
    error = (torch.cat([values[:8], values[-8:]]) - torch.tensor(PUBLISHED)).abs().max().item()
    if error > 1e-5:
        raise ValueError(f"the published values are missed by {error}")
    tensors["published"] = torch.tensor(PUBLISHED)
    both = torch.nn.Module()
    both.transformer, both.vae = pipe.transformer, pipe.vae
    transformer, vae = ({k: v for k, v in m.config.items() if k[0] != "_"} for m in (pipe.transformer, pipe.vae))
    config = {"transformer": transformer, "vae": vae,
              "scheduler": {"use_dynamic_shifting": False, "shift": 1.0}, "steps": 2, "guidance": 4.0}
    save(PART, "published_slice", tensors, both, config)
    print(f"published slice: largest difference {error:.2e}")
