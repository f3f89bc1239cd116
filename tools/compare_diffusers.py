#!/usr/bin/env python3
"""diffusers' side of `klein bench --compare-diffusers`: draws the pictures that klein is timed with, and takes their times.

klein starts it and sends a line of JSON for each picture, {"run": "eager" or "compiled", "prompt": TEXT}; the answer is a
line of JSON on standard output:
    text, step, decode, picture       seconds; of a step the median, of a picture all from the prompt to 8-bit pixels
    latents_cosine, latents_error     klein's final latents against these, the error relative to their norm
    picture_psnr                      klein's picture against this one, in dB; null where they are equal
Before the first one comes {"program": versions, "device": name}, or {"error": sentence, "hint": sentence}; --check, alone,
answers {} or the same error from the names of the modules, in no time. Noise, size,
steps and guidance are klein's. Compiled: torch.compile of transformer and decoder, attention by cuDNN and one product for
query, key and value where there is a GPU. Needs torch, diffusers, transformers, safetensors, numpy and Pillow.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import statistics
import sys
import time

NEEDED = "torch, diffusers, transformers, accelerate, safetensors, numpy and Pillow"
MODULES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "PIL")


def load(diffusers, model, **options):
    """The pipeline of a model. Its transformer may be a LoRA, which is then merged into the weights that it names (needs peft)."""
    adapter = model / "transformer/adapter_config.json"
    if not adapter.exists():
        return diffusers.Flux2KleinPipeline.from_pretrained(model, **options)
    base = adapter.parent / json.loads(adapter.read_text())["base_model_name_or_path"]
    transformer = diffusers.Flux2Transformer2DModel.from_pretrained(base, **options)
    pipe = diffusers.Flux2KleinPipeline.from_pretrained(model, transformer=transformer, **options)
    pipe.load_lora_weights(adapter.parent, weight_name="adapter_model.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    return pipe


class Drawer:
    """The pipeline, and klein's results beside it."""

    def __init__(self, options):
        import diffusers
        import numpy as np
        import torch
        import transformers
        from PIL import Image
        from safetensors.torch import load_file

        self.torch, self.np, self.options = torch, np, options
        self.device = "cuda" if options.device == "cuda" and torch.cuda.is_available() else "cpu"
        self.program = f"diffusers {diffusers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
        index = json.loads((options.model / "model_index.json").read_text())
        self.pipe = load(diffusers, options.model, dtype=getattr(torch, options.dtype), local_files_only=True).to(self.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.settings = {"height": options.height, "width": options.width, "num_inference_steps": options.steps,
                         "latents": load_file(options.noise)["latents"], "output_type": "pil",
                         "max_sequence_length": index.get("max_sequence_length", 512),
                         "text_encoder_out_layers": tuple(index.get("text_encoder_out_layers", (9, 18, 27)))}
        if options.guidance is not None:
            self.settings["guidance_scale"] = options.guidance
        self.klein_latents = load_file(options.latents)["latents"].numpy()
        with Image.open(options.picture) as picture:
            self.klein_picture = np.asarray(picture.convert("RGB"))
        self.encode, self.pipe.encode_prompt = self.pipe.encode_prompt, self.timed_encode
        self.is_compiled = False

    def now(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def timed_encode(self, *arguments, **options):
        start = self.now()
        result = self.encode(*arguments, **options)
        self.encoded = self.now()
        self.text_secs += self.encoded - start
        return result

    def compile(self):
        mode = "max-autotune-no-cudagraphs" if self.options.compile == "max-autotune" else self.options.compile
        transformer, vae = self.pipe.transformer, self.pipe.vae
        if self.device == "cuda":
            for module in list(transformer.modules()):
                if hasattr(module, "fuse_projections"):
                    module.fuse_projections()
            transformer.set_attention_backend("_native_cudnn")
            vae.to(memory_format=self.torch.channels_last)
        transformer.compile(mode=mode)
        vae.decoder.compile(mode=mode)
        self.is_compiled = True

    def draw(self, way, prompt):
        if way == "compiled" and not self.is_compiled:
            self.compile()
        self.text_secs, ends, seen = 0.0, [], {}

        def keep(_, i, t, tensors):
            ends.append(self.now())
            seen["latents"] = tensors["latents"]
            return {}

        start = self.now()
        image = self.pipe(prompt=prompt, callback_on_step_end=keep, **self.settings).images[0]
        picture = self.np.asarray(image)
        end = self.now()
        steps = [b - a for a, b in zip([self.encoded, *ends], ends)]
        latents = seen["latents"].detach().float().cpu().numpy()
        return {"text": self.text_secs, "step": statistics.median(steps), "decode": end - ends[-1], "picture": end - start,
                **self.compare(latents, picture)}

    def compare(self, latents, picture):
        a, b = (x.astype(self.np.float64).ravel() for x in (self.klein_latents, latents))
        error = self.np.mean((self.klein_picture.astype(self.np.float64) - picture) ** 2)
        return {"latents_cosine": float(a @ b / math.sqrt((a @ a) * (b @ b))),
                "latents_error": float(self.np.linalg.norm(a - b) / self.np.linalg.norm(b)),
                "picture_psnr": None if error == 0 else 10 * math.log10(255**2 / error)}


def missing(reason):
    return {"error": f"expected a Python with diffusers' Flux2KleinPipeline, but {reason}: {sys.executable}",
            "hint": f"Install {NEEDED} there, or name another by --python."}


def check():
    absent = [name for name in MODULES if importlib.util.find_spec(name) is None]
    print(json.dumps(missing(f"No module named '{absent[0]}'") if absent else {}))


def main():
    if sys.argv[1:] == ["--check"]:
        return check()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder in diffusers' layout")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True, help="cuda is taken where there is one")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--guidance", type=float, help="of a base model")
    parser.add_argument("--compile", choices=("default", "max-autotune"), help="how, where compiled pictures will be asked for")
    parser.add_argument("--noise", required=True, help="starting noise, `latents` of a safetensors file")
    parser.add_argument("--latents", required=True, help="klein's final latents, as the noise")
    parser.add_argument("--picture", required=True, help="klein's picture")
    options = parser.parse_args()

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    try:
        drawer = Drawer(options)
    except (ImportError, AttributeError) as error:
        if isinstance(error, AttributeError) and "Flux2KleinPipeline" not in str(error):
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        print(json.dumps(missing(reason)), file=answers)
        return 1
    print(json.dumps({"program": drawer.program, "device": drawer.device}), file=answers)
    for line in sys.stdin:
        wanted = json.loads(line)
        print(json.dumps(drawer.draw(wanted["run"], wanted["prompt"])), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
