"""Runs a pipeline that takes pictures and keeps what each stage hands to the next."""

import numpy as np
import torch

from common import FIXTURES, save
from edit_pictures import keep_prepared
from pipeline_fixtures import PROMPT, TEXT
from tiny_models import load

PART = "edit"


def pipeline(model, kind=None, dtype=torch.float32):
    """A checkpoint as another pipeline: Flux2KleinPipeline loads it, `kind` gets its parts."""
    pipe = load(model, dtype)
    if kind is None:
        return pipe
    other = kind(**{k: getattr(pipe, k) for k in ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")},
                 is_distilled=bool(pipe.config.is_distilled))
    other.set_progress_bar_config(disable=True)
    return other


def picture_of(pipe, decoded):
    """8-bit levels [1,H,W,3] of what the autoencoder decoded."""
    return torch.from_numpy(np.asarray(pipe.image_processor.postprocess(decoded, output_type="pil")[0]).copy())[None]


class Trace:
    """Wraps the methods of a pipeline that nobody else uses, and runs it.

    `tensors` are for the fixture; `made` is what prepare_latents returned, `prepared` the pictures that were encoded.
    """

    def __init__(self, pipe, velocities=1):
        self.pipe, self.velocities = pipe, velocities
        encode = pipe.vae.encode
        # The pictures come with their channels last, for which torch's CPU kernels are up to 100 times less exact on
        # large ones: 2.5e-3 from float64 at 1216 x 848, with channels first 2.5e-5.
        pipe.vae.encode = lambda x, *args, **kwargs: encode(x.contiguous(), *args, **kwargs)
        self.tensors, self.prepared, self.made = {}, [], None
        for module, name in ((pipe, "prepare_latents"), (pipe, "prepare_image_latents"), (pipe.scheduler, "step"),
                             (pipe.vae, "encode"), (pipe.vae, "decode")):
            self.wrap(module, name, getattr(self, f"on_{name}"))

    def wrap(self, module, name, seen):
        """Has `seen` told the arguments and the result of every call."""
        method = getattr(module, name)

        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            seen(args, kwargs, result)
            return result

        setattr(module, name, call)

    def on_prepare_latents(self, _args, _kwargs, result):
        self.made = result

    def on_prepare_image_latents(self, _args, _kwargs, result):
        self.tensors["reference_tokens"], self.tensors["reference_ids"] = result

    def on_step(self, args, _kwargs, _result):
        i = sum(k.startswith("velocity_") for k in self.tensors)
        if i < self.velocities:
            self.tensors[f"velocity_{i}"] = args[0]

    def on_encode(self, args, _kwargs, _result):
        self.prepared.append(args[0])

    def on_decode(self, _args, _kwargs, result):
        self.tensors["image_u8"] = picture_of(self.pipe, result[0])

    def run(self, seed, **options):
        """Draws from `seed`, unless it is None; returns the pipeline's pictures."""
        def keep_step(_, i, t, tensors):
            self.tensors[f"latents_{i}"] = tensors["latents"]
            return {}

        generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        images = self.pipe(prompt=PROMPT, generator=generator, callback_on_step_end=keep_step, output_type="pil",
                           **TEXT, **options).images
        self.tensors["sigmas"], self.tensors["timesteps"] = self.pipe.scheduler.sigmas, self.pipe.scheduler.timesteps
        if generator is not None:
            height, width = self.tensors["image_u8"].shape[1:3]
            self.keep_noise(seed, height, width, generator)
        return images

    def keep_noise(self, seed, height, width, generator):
        """The noise is the first and only draw: encoding pictures takes the mean."""
        alone = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn((1, 128, height // 16, width // 16), generator=alone, dtype=self.pipe.transformer.dtype)
        packed = self.made[1] if len(self.made) > 2 else self.made[0]  # inpainting returns its start before the noise
        if not torch.equal(self.pipe._pack_latents(noise), packed) or not torch.equal(generator.get_state(), alone.get_state()):
            raise ValueError("the pipeline draws something else than noise")
        self.tensors["noise"] = noise


def save_case(name, trace, config, pictures=()):
    """A bfloat16 run has no configuration of its own. `pictures` names what was encoded, in the order of the calls."""
    if trace.pipe.transformer.dtype == torch.bfloat16:
        save(PART, name + "_bf16", trace.tensors)
        return
    config = {"prompt": PROMPT} | config
    if pictures:
        config["prepared"] = [keep_prepared(image, n) for image, n in zip(trace.prepared, pictures, strict=True)]
    save(PART, name, trace.tensors, config=config)


def check_sizes():
    files = [f for f in (FIXTURES / PART).rglob("*") if f.is_file()]
    large = [f.name for f in files if f.stat().st_size > 100_000]
    total = sum(f.stat().st_size for f in files)
    if large or total > 1_000_000:
        raise ValueError(f"too large: {total} bytes in all, {large}")
    return total
