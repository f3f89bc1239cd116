"""Flux2KleinInpaintPipeline, and the rules of its sizes, steps and crops: the inpaint_* files of tests/fixtures/edit.

With padding_mask_crop diffusers lays the result over the picture through a method that cuts where it should shrink:
Flux2ImageProcessor overrides the "crop" resize that apply_overlay calls. `image_u8` is the result before that;
`overlay_u8` is what apply_overlay makes of it with the resize of the base class, as all other pipelines have it.
"""

import numpy as np
import torch
from diffusers import Flux2KleinInpaintPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from common import Rng
from edit_pictures import file_of, keep_prepared, opened
from edit_trace import PART, Trace, pipeline, save_case


def levels(image):
    return torch.from_numpy(np.asarray(image).copy())[None]


def inpaint(name, model, picture, mask, steps, strength, seed=11, guidance=None, reference=None, padding=None,
            given=False, dtypes=(torch.float32,)):
    """Where the latents are `given`, they are the start and the noise of every step, however low the strength is."""
    for dtype in dtypes:
        trace = Trace(pipeline(model, Flux2KleinInpaintPipeline, dtype))
        pipe, out = trace.pipe, trace.tensors
        boxes = []
        trace.wrap(pipe.mask_processor, "get_crop_region", lambda _args, _kwargs, box: boxes.append(box))

        def keep_mask(args, _kwargs, result):
            out["mask_u8"], out["mask_tokens"] = (args[0] * 255).to(torch.uint8).squeeze(1), result

        trace.wrap(pipe, "prepare_mask_latents", keep_mask)
        image = opened(picture)
        options = {"guidance_scale": guidance or 1.0}
        if reference:
            options["image_reference"] = opened(reference)
        if padding is not None:
            options["padding_mask_crop"] = padding
        if given:
            sides = (side // 16 for side in image.size)
            options["latents"] = out["noise"] = Rng(f"{PART}/{name}").normal(1, 128, *reversed(list(sides)))
        images = trace.run(None if given else seed, image=image, mask_image=opened(mask), strength=strength,
                           num_inference_steps=steps, **options)
        start, _, x0, _, _ = trace.made
        tokens = out.pop("reference_tokens")
        if not torch.equal(tokens[:, :x0.shape[1]], x0):
            raise ValueError("the first condition is not the picture")
        if not 0 < out["mask_tokens"].mean() < 1:  # a mask between the sampled pixels is lost
            raise ValueError("the mask leaves all or nothing")
        out |= {"start": start, "x0": x0, "condition_ids": out.pop("reference_ids")}
        if reference:
            out["reference_tokens"] = tokens[:, x0.shape[1]:]
        config = {"model": model, "steps": steps, "strength": strength,
                  "first_step": len(out["timesteps"]) - sum(k.startswith("latents_") for k in out), "image": file_of(picture),
                  "mask": file_of(mask)}
        config |= {} if given else {"seed": seed}
        config |= {"guidance": guidance} if guidance else {}
        config |= {"reference": file_of(reference)} if reference else {}
        if padding is not None:
            config |= {"padding": padding, "box": list(boxes[0])}
            mended = VaeImageProcessor(vae_scale_factor=16).apply_overlay(
                opened(mask), image, Image.fromarray(out["image_u8"][0].numpy()), boxes[0])
            out["overlay_u8"] = levels(mended)
            config["diffusers_overlay_is_the_same"] = bool(torch.equal(levels(images[0]), out["overlay_u8"]))
        how = "squeezed" if padding is None else "filled_" + "_".join(map(str, boxes[0]))
        save_case(name, trace, config, [f"{picture}_{how}", reference] if reference else [f"{picture}_{how}"])


# Rules -----------------------------------------------------------------------------------------------------------

def first_steps(pipe):
    """The step that inpainting starts with, in the arithmetic of doubles: 25 * 0.56 is a little more than 14."""
    cases = []
    for steps in (1, 2, 4, 5, 10, 25, 50):
        pipe.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=1.0)
        for strength in (0.0, 0.1, 0.25, 0.28, 0.5, 0.56, 0.58, 0.8, 0.99, 1.0):
            cases.append({"steps": steps, "strength": strength,
                          "first": steps - pipe.get_timesteps(steps, strength, "cpu")[1]})
    return cases


def boxes(pipe):
    """Crop boxes of masks that are white in a rectangle: mask's size, rectangle, result's size, padding, box."""
    rng, cases = Rng(f"{PART}/boxes"), []
    for width, height in ((70, 53), (640, 480), (123, 1000), (64, 64)):
        for _ in range(12):
            left, right = sorted(rng.integers(2, high=width + 1).tolist())
            top, bottom = sorted(rng.integers(2, high=height + 1).tolist())
            if left == right or top == bottom:
                continue
            mask = np.zeros((height, width), np.uint8)
            mask[top:bottom, left:right] = 1  # any grey but black counts
            size, padding = (width // 16 * 16, height // 16 * 16), int(rng.integers(1, high=40))
            box = pipe.mask_processor.get_crop_region(Image.fromarray(mask), *size, pad=padding)
            cases.append({"mask": [width, height], "white": [left, top, right, bottom], "size": size,
                          "padding": padding, "box": [int(v) for v in box]})
    return cases


def large_picture(pipe):
    """A picture above the cap is resized twice: to the area, then to multiples of 16."""
    image, cap = opened("large_grey"), 1024 * 1024
    scale = (cap / (image.width * image.height)) ** 0.5
    image = pipe.image_processor.resize(image, int(image.height * scale), int(image.width * scale))
    width, height = (side // 16 * 16 for side in image.size)
    pixels = pipe.image_processor.preprocess(image, height, width, resize_mode="default")
    return {"picture": file_of("large_grey"), "prepared": keep_prepared(pixels, "large_grey_squeezed")}


def rules():
    pipe = pipeline("tiny-distilled", Flux2KleinInpaintPipeline)
    return {"inpaint_first_steps": first_steps(pipe), "inpaint_boxes": boxes(pipe), "inpaint_prepared": [large_picture(pipe)]}


def make():
    both = (torch.float32, torch.bfloat16)
    inpaint("inpaint_soft", "tiny-distilled", "scene", "scene_soft", 5, 0.8)
    inpaint("inpaint_reference", "tiny-distilled", "yard", "yard_soft", 4, 0.5, reference="square", dtypes=both)
    inpaint("inpaint_crop", "tiny-distilled", "yard", "yard_small", 2, 1.0, padding=3)
    inpaint("inpaint_alpha", "tiny-distilled", "sticker", "sticker_corner", 2, 1.0)
    inpaint("inpaint_base", "tiny-base", "yard", "yard_soft", 3, 0.8, guidance=3.5, reference="square")
    inpaint("inpaint_base_crop", "tiny-base", "yard", "yard_high", 4, 0.5, guidance=4.0, reference="square", padding=4)
    inpaint("inpaint_latents", "tiny-distilled", "yard", "yard_soft", 2, 0.5, given=True)
