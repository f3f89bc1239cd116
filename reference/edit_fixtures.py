"""Pictures in: edits with references, with and without the KV cache, and img2img.

Writes tests/fixtures/edit with edit_pictures.py (the pictures), inpaint_fixtures.py and lora_runtime.py.
"""

import shutil

import numpy as np
import torch
from diffusers import Flux2KleinKVPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from PIL import Image, ImageOps

import edit_pictures
import inpaint_fixtures
import lora_runtime
from common import FIXTURES, Rng, save, write_json
from edit_pictures import file_of, keep_prepared, opened
from edit_trace import PART, Trace, check_sizes, picture_of, pipeline, save_case
from pipeline_fixtures import PROMPT, TEXT

KEPT_TOKENS = 24  # about as many of a case's references are kept where it has more than twice as many


def settings(model, seed, steps, references, size, guidance=None):
    config = {"model": model, "seed": seed, "steps": steps, "references": [file_of(r) for r in references]}
    config |= {k: v for k, v in zip(("width", "height"), size) if v}
    return config | ({"guidance": guidance} if guidance else {})


def run(trace, seed, steps, references, size, **options):
    options |= {k: v for k, v in zip(("width", "height"), size) if v}
    trace.run(seed, image=[opened(r) for r in references], num_inference_steps=steps, **options)


def edit(name, model, references, steps, size=(None, None), seed=42, guidance=None, dtypes=(torch.float32,)):
    """With seed None the latents are given; they are the fixture's `noise` then, too."""
    for dtype in dtypes:
        trace, options = Trace(pipeline(model, dtype=dtype)), {"guidance_scale": guidance or 1.0}
        config = settings(model, seed, steps, references, size, guidance)
        if seed is None:
            given = Rng(f"{PART}/{name}").normal(1, 128, size[1] // 16, size[0] // 16)
            options["latents"] = trace.tensors["noise"] = given
        run(trace, seed, steps, references, size, **options)
        tokens = trace.tensors["reference_tokens"].shape[1]
        if tokens > 2 * KEPT_TOKENS:
            rows = torch.arange(0, tokens, tokens // KEPT_TOKENS | 1)
            trace.tensors |= {k: trace.tensors[k][:, rows] for k in ("reference_tokens", "reference_ids")}
            trace.tensors["reference_rows"] = rows
        save_case(name, trace, config, references)


def kv(name, references, steps, size, seed):
    trace = Trace(pipeline("tiny-distilled", Flux2KleinKVPipeline), velocities=2)

    def keep_cache(_args, kwargs, result):
        if kwargs.get("kv_cache_mode") == "extract":
            for block, layer in (("double_0", result[1].get_double(0)), ("single_1", result[1].get_single(1))):
                trace.tensors[f"{block}.key"], trace.tensors[f"{block}.value"] = (x.clone() for x in layer.get())

    trace.wrap(trace.pipe.transformer, "forward", keep_cache)
    run(trace, seed, steps, references, size)
    save_case(name, trace, settings("tiny-distilled", seed, steps, references, size), references)


# img2img ---------------------------------------------------------------------------------------------------------

def first_step(steps, strength):
    """mflux's rule: the higher the strength, the closer to the picture."""
    return max(1, int(steps * max(0.0, min(1.0, strength))))


def velocity_of(pipe, latents, t, ids, guidance):
    """As the pipeline's loop has it."""
    def forward(prompt):
        embeds, text_ids = pipe.encode_prompt(prompt, device="cpu", **TEXT)
        return pipe.transformer(hidden_states=latents, timestep=t.expand(1) / 1000, guidance=None, txt_ids=text_ids,
                                encoder_hidden_states=embeds, img_ids=ids, return_dict=False)[0]

    if guidance is None:
        return forward(PROMPT)
    negative = forward("")
    return negative + guidance * (forward(PROMPT) - negative)


def decode(pipe, tokens, ids, rows, columns):
    mean, variance = (x.view(1, -1, 1, 1) for x in (pipe.vae.bn.running_mean, pipe.vae.bn.running_var))
    latents = pipe._unpack_latents_with_ids(tokens, ids, rows, columns)
    latents = latents * torch.sqrt(variance + pipe.vae.config.batch_norm_eps) + mean
    return picture_of(pipe, pipe.vae.decode(pipe._unpatchify_latents(latents), return_dict=False)[0])


def img2img(name, model, picture, size, steps, strength, seed=9, guidance=None):
    """diffusers has no such pipeline for Klein: these are its parts. Pillow stretches the picture to the size."""
    pipe = pipeline(model)
    trace = Trace(pipe)
    image = opened(picture).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    x0 = pipe._encode_vae_image(pipe.image_processor.preprocess(image, height=size[1], width=size[0]), generator=None)
    noise = torch.randn(x0.shape, generator=torch.Generator("cpu").manual_seed(seed))
    rows, columns = x0.shape[2:]
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps),
                                 mu=compute_empirical_mu(image_seq_len=rows * columns, num_steps=steps))
    first = first_step(steps, strength)
    timesteps = pipe.scheduler.timesteps[first:]
    start = x0
    if len(timesteps):
        pipe.scheduler.set_begin_index(first)
        start = pipe.scheduler.scale_noise(x0, timesteps[:1], noise)
    latents, ids = pipe._pack_latents(start), pipe._prepare_latent_ids(x0)
    trace.tensors |= {"noise": noise, "x0": pipe._pack_latents(x0), "start": latents,
                      "sigmas": pipe.scheduler.sigmas, "timesteps": pipe.scheduler.timesteps}
    for i, t in enumerate(timesteps):
        latents = pipe.scheduler.step(velocity_of(pipe, latents, t, ids, guidance), t, latents, return_dict=False)[0]
        trace.tensors[f"latents_{i}"] = latents
    trace.tensors["image_u8"] = decode(pipe, latents, ids, rows, columns)
    config = {"model": model, "seed": seed, "steps": steps, "width": size[0], "height": size[1],
              "image": file_of(picture), "strength": strength, "first_step": first}
    save_case(name, trace, config | ({"guidance": guidance} if guidance else {}), [f"{picture}_stretched"])


# Beside the runs -------------------------------------------------------------------------------------------------

def prepared_pictures():
    """Pictures as the edit pipeline prepares them, beyond those of the cases. It leaves the EXIF orientation to its caller."""
    processor, cases = pipeline("tiny-distilled").image_processor, []
    for name in ("grey_alpha", "large_alpha", "large_grey", "large_palette", "turned"):
        image = processor.check_image_input(ImageOps.exif_transpose(opened(name)))
        image = processor._resize_if_exceeds_area(image)
        width, height = (side // 16 * 16 for side in image.size)
        pixels = processor.preprocess(image, height=height, width=width, resize_mode="crop")
        cases.append({"picture": file_of(name), "prepared": keep_prepared(pixels, name)})
    return cases


def first_steps():
    return [{"steps": steps, "strength": strength, "first": first_step(steps, strength)}
            for steps in (1, 4, 8, 25, 50, 100) for strength in (0.05, 0.1, 0.25, 0.28, 0.29, 0.4, 0.5, 0.58, 0.75, 0.99, 1.0)]


def embeddings():
    out = {}
    for model, prompts in (("tiny-distilled", {"prompt": PROMPT}), ("tiny-base", {"prompt": PROMPT, "negative_prompt": ""})):
        pipe = pipeline(model)
        out |= {f"{model}.{k}_embeds": pipe.encode_prompt(v, device="cpu", **TEXT)[0] for k, v in prompts.items()}
    save(PART, "prompts", out)


def make():
    shutil.rmtree(FIXTURES / PART, ignore_errors=True)
    edit_pictures.make()
    embeddings()
    edit("edit_one", "tiny-distilled", ["near"], 2, dtypes=(torch.float32, torch.bfloat16))
    edit("edit_two", "tiny-distilled", ["tall", "odd"], 4, (48, 32), seed=3)
    edit("edit_four", "tiny-distilled", ["wide", "square", "odd", "alpha"], 2, (48, 32), seed=4)
    edit("edit_modes", "tiny-distilled", ["alpha", "palette", "grey"], 2, (32, None))
    edit("edit_large", "tiny-distilled", ["large"], 2, (48, 32))
    edit("edit_base_cfg", "tiny-base", ["square"], 3, (32, 32), seed=7, guidance=4.0)
    edit("edit_latents", "tiny-distilled", ["square"], 2, (32, 32), seed=None)
    kv("kv_one", ["square"], 4, (48, 32), seed=5)
    kv("kv_two", ["odd", "square"], 4, (32, 32), seed=6)
    img2img("img2img_25", "tiny-distilled", "scene", (48, 32), 4, 0.25)
    img2img("img2img_40_base", "tiny-base", "yard", (48, 32), 4, 0.4, guidance=4.0)
    img2img("img2img_75", "tiny-distilled", "exact", (48, 32), 4, 0.75)
    img2img("img2img_50_of_8", "tiny-distilled", "sticker", (32, 32), 8, 0.5)
    img2img("img2img_100", "tiny-distilled", "scene", (48, 32), 4, 1.0)
    lora_runtime.make()
    inpaint_fixtures.make()
    write_json(FIXTURES / PART / "rules.json", {"edit_prepared": prepared_pictures(), "img2img_first_steps": first_steps()}
               | inpaint_fixtures.rules())
    print(f"edit: {check_sizes()} bytes")
