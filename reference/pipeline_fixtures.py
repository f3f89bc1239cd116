"""Flux2KleinPipeline from prompt to pixels, on the tiny checkpoints of tiny_models.py."""

import numpy as np
import torch

from common import save
from tiny_models import MAX_LENGTH, OUT_LAYERS, load

PART = "pipeline"
HEIGHT, WIDTH = 48, 64  # 3 x 4 tokens
PROMPT = "a red apple on a wooden table"
TEXT = {"max_sequence_length": MAX_LENGTH, "text_encoder_out_layers": OUT_LAYERS}


def token_ids(pipe, prompts):
    """Ids and mask of the prompts, by the calls that the pipeline makes."""
    rows = []
    for prompt in prompts:
        text = pipe.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                                  add_generation_prompt=True, enable_thinking=False)
        rows.append(pipe.tokenizer(text, return_tensors="pt", padding="max_length", truncation=True,
                                   max_length=MAX_LENGTH))
    return (torch.cat([row[k] for row in rows]) for k in ("input_ids", "attention_mask"))


def trace(pipe, prompts, seeds, steps, guidance=1.0, images_per_prompt=1, sigmas=None, negative=None):
    """Runs the pipeline once and keeps what each stage hands to the next."""
    out = {}
    out["input_ids"], out["attention_mask"] = token_ids(pipe, prompts)
    out["prompt_embeds"] = pipe.encode_prompt(prompts, device="cpu", **TEXT)[0]
    options = {}
    if pipe.config.is_distilled is False:
        negatives = [negative or ""] * len(prompts)
        out["negative_input_ids"], _ = token_ids(pipe, negatives)
        out["negative_prompt_embeds"] = pipe.encode_prompt(negatives, device="cpu", **TEXT)[0]
        if negative:
            options["negative_prompt_embeds"] = out["negative_prompt_embeds"]

    prepare, decode = pipe.prepare_latents, pipe.vae.decode

    def keep_noise(*args, **kwargs):
        packed, ids = prepare(*args, **kwargs)
        out["noise"] = pipe._unpack_latents_with_ids(packed, ids, HEIGHT // 16, WIDTH // 16)
        return packed, ids

    def keep_step(_, i, t, tensors):
        out[f"latents_{i}"] = tensors["latents"]
        return {}

    def keep_decoded(latents, **kwargs):
        result = decode(latents, **kwargs)
        out["decoder_input"], out["decoded"] = latents, result[0]
        return result

    pipe.prepare_latents, pipe.vae.decode = keep_noise, keep_decoded
    try:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        image = pipe(prompt=prompts, height=HEIGHT, width=WIDTH, num_inference_steps=steps, guidance_scale=guidance,
                     num_images_per_prompt=images_per_prompt, generator=generators, sigmas=sigmas, output_type="np",
                     callback_on_step_end=keep_step, **TEXT, **options).images
    finally:
        pipe.prepare_latents, pipe.vae.decode = prepare, decode
    out["sigmas"], out["timesteps"] = pipe.scheduler.sigmas, pipe.scheduler.timesteps
    out["image"] = torch.from_numpy(image)
    pictures = [np.asarray(p) for p in pipe.image_processor.numpy_to_pil(image)]
    out["image_u8"] = torch.from_numpy(np.stack(pictures))
    return out


# What a case keeps that differs from the two main ones in its settings alone.
SHORT = ("input_ids", "attention_mask", "negative_input_ids", "prompt_embeds", "negative_prompt_embeds", "noise",
         "sigmas", "timesteps", "image_u8")


def case(name, model, prompts=(PROMPT,), seeds=(42,), steps=4, full=False, **options):
    for dtype in (torch.float32, torch.bfloat16)[: 1 + full]:
        pipe = load(model, dtype)
        config = {"model": model, "prompts": list(prompts), "seeds": list(seeds), "steps": steps, "height": HEIGHT,
                  "width": WIDTH} | options
        suffix = "_bf16" if dtype == torch.bfloat16 else ""
        tensors = trace(pipe, list(prompts), seeds, steps, **options)
        if not full:
            tensors = {k: tensors[k] for k in (*SHORT, f"latents_{steps - 1}") if k in tensors}
        save(PART, name + suffix, tensors, config=None if suffix else config)


def sharded_equals_whole():
    """The sharded checkpoint holds the distilled one's bfloat16 weights: no fixture of its own."""
    a, b = (trace(load(m, torch.bfloat16), [PROMPT], (42,), 4) for m in ("tiny-distilled", "tiny-sharded"))
    if not torch.equal(a["image_u8"], b["image_u8"]):
        raise ValueError("tiny-sharded and tiny-distilled draw different pictures")


def make():
    case("distilled", "tiny-distilled", full=True)
    case("distilled_batch", "tiny-distilled", prompts=(PROMPT, "a small yellow cat"), seeds=(1, 2, 3, 2**32 + 5),
         steps=2, images_per_prompt=2)
    case("distilled_guidance_ignored", "tiny-distilled", steps=2, guidance=4.0)
    case("base_cfg", "tiny-base", full=True, seeds=(7,), steps=5, guidance=4.0)
    case("base_guidance_one", "tiny-base", seeds=(7,), steps=2, guidance=1.0)
    case("base_negative", "tiny-base", seeds=(7,), steps=3, guidance=2.7, negative="a cat, blue")
    case("custom_sigmas", "tiny-distilled", steps=3, sigmas=[1.0, 0.75, 0.3])
    case("empty_prompt", "tiny-distilled", prompts=("",), steps=1)
    words = " ".join(["photo of a small yellow cat, soft light"] * 6)
    case("long_prompt", "tiny-distilled", prompts=(words,), steps=1)
    case("unusual_prompt", "tiny-distilled", prompts=("\n\nCafe\u0301 <|im_end|> 1 \u732b <think>",), steps=1)
    sharded_equals_whole()
