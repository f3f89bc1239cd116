#!/usr/bin/env python3
"""Compares klein with diffusers at full size: the same weights, noise and prompt, on one GPU.

For each case, what diffusers computes stands against what the program writes:
  prompt embeddings   each side encodes the prompt itself
  first velocity      noise - latents after one step from noise level 1 to 0, both fed diffusers' prompt embeddings
  final latents       the whole run, each side with its own prompt embeddings
  picture             8 bits a channel, of that run
  decoder alone       klein's picture against diffusers' decoding of klein's final latents
The status is 1 where a cosine is not above 0.999 or a picture's PSNR not above 35 dB. Beside each number stand
yardsticks: how far bfloat16 diffusers is from itself in float32 and from itself with plainly computed attention, and
how far klein is from diffusers in float32.

The model is any FLUX.2 Klein checkpoint in diffusers' layout. Where the folder does not exist, random weights of full
size are written there, which needs --size and --tokenizer. Distilled and base models differ in a flag alone, so one
checkpoint serves both. Needs torch, diffusers, transformers, numpy and Pillow.

    tools/full_size_truth.py --klein build/cuda/klein --model klein-4b-random --size 4b --tokenizer DIR
"""

import argparse
import contextlib
import gc
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import random_checkpoint

MIN_COSINE, MIN_PSNR = 0.999, 35.0
PROMPT = ("A red fox sleeping on mossy stones beside a narrow stream, early morning fog between tall pines, soft light from "
          "the left, a wooden sign that reads \"north\" in the background, photographed with a long lens")
NEGATIVE = "blurry, oversaturated, text, watermark"
PARTS = ("prompt embeddings", "first velocity", "final latents")


# --- numbers -----------------------------------------------------------------------------------------------------------


def cosine(a, b):
    a, b = (x.astype(np.float64).ravel() for x in (a, b))
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def worst_cosine(a, b):
    """The smallest cosine of one token's row."""
    a, b = (x.astype(np.float64).reshape(-1, x.shape[-1]) for x in (a, b))
    return float(((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).min())


def relative_error(a, b):
    """||a - b|| / ||b||"""
    a, b = (x.astype(np.float64) for x in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def psnr(a, b):
    """Of two 8-bit pictures, in dB; infinite where they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def compare(klein, reference, other, exact):
    """Rows of the table: stage, four numbers of klein against the reference, three yardsticks."""
    rows = []
    for part in PARTS:
        a, b = klein[part], reference[part]
        if a.shape != b.shape:
            raise SystemExit(f"expected {part} of shape {list(b.shape)}, got {list(a.shape)}")
        yardsticks = [relative_error(x, y[part]) if x is not None and y else None
                      for x, y in ((a, exact), (b, exact), (other and other[part], reference))]
        rows.append((part, cosine(a, b), worst_cosine(a, b), relative_error(a, b), None, *yardsticks))
    for part, b in (("picture", reference["picture"]), ("decoder alone", reference["decoded"])):
        a = klein["picture"]
        yardsticks = [None] * 3
        if part == "picture":
            yardsticks = [psnr(x, y["picture"]) if x is not None and y else None
                          for x, y in ((a, exact), (b, exact), (other and other["picture"], reference))]
        rows.append((part, None, None, None, psnr(a, b), *yardsticks))
    return rows


def passes(row):
    _, similar, _, _, decibels, *_ = row
    return similar > MIN_COSINE if decibels is None else decibels > MIN_PSNR


# --- diffusers ---------------------------------------------------------------------------------------------------------


class Reference:
    """Flux2KleinPipeline on the device, one stage at a time."""

    def __init__(self, options, folder):
        import diffusers
        import torch
        import transformers

        self.torch, self.options, self.folder = torch, options, folder
        diffusers.logging.set_verbosity_error()
        diffusers.logging.disable_progress_bar()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_grad_enabled(False)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.name = f"diffusers {diffusers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"
        index = json.loads((folder / "model_index.json").read_text())
        self.text = {"max_sequence_length": index.get("max_sequence_length", 512),
                     "text_encoder_out_layers": tuple(index.get("text_encoder_out_layers", (9, 18, 27)))}
        self.pipe = diffusers.Flux2KleinPipeline.from_pretrained(folder, dtype=getattr(torch, options.dtype))
        self.pipe.to(options.device)
        self.pipe.set_progress_bar_config(disable=True)

    def wait(self):
        if self.options.device == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def encode(self, prompt):
        return self.pipe.encode_prompt(prompt, device=self.options.device, **self.text)[0]

    def draw(self, case, noise, embeds, negative, **schedule):
        """Final latents [1, L, C], picture, and the seconds of the steps and of the decoder."""
        self.pipe.register_to_config(is_distilled=not case.guided)
        seen = {}

        def keep(_, i, t, tensors):
            seen["latents"], seen["time"] = tensors["latents"], self.wait()
            return {}

        start = self.wait()
        guidance = {"guidance_scale": self.options.guidance, "negative_prompt_embeds": negative} if case.guided else {}
        picture = self.pipe(prompt_embeds=embeds, latents=self.torch.from_numpy(noise), height=case.size, width=case.size,
                            output_type="pil", callback_on_step_end=keep, **guidance, **schedule).images[0]
        seconds = {"steps": seen["time"] - start, "decode": self.wait() - seen["time"]}
        return to_numpy(seen["latents"]), np.asarray(picture), seconds

    def run(self, case, noise, prompts, fed):
        """One case; `prompts` are this dtype's and kernels' own embeddings, `fed` those of the first run."""
        if self.options.device == "cuda":
            self.torch.cuda.reset_peak_memory_stats()
        dtype = self.pipe.transformer.dtype
        latents, picture, seconds = self.draw(case, noise, *prompts, num_inference_steps=self.options.steps)
        one_step, _, _ = self.draw(case, noise, *(x.to(dtype) for x in fed), num_inference_steps=1, sigmas=[1.0])
        return {"prompt embeddings": to_numpy(prompts[0]), "first velocity": tokens(noise) - one_step,
                "final latents": latents, "picture": picture, "seconds": seconds,
                "peak": self.torch.cuda.max_memory_allocated() if self.options.device == "cuda" else None}

    def run_all(self, cases, noises):
        """Results of every case: as it is, with plain attention, in float32 (None where not asked for)."""
        start = self.wait()
        fed = [self.encode(x) for x in (self.options.prompt, self.options.negative_prompt)]
        self.text_seconds = (self.wait() - start) / 2
        plain = [self.run(case, noises[case.size], fed, fed) for case in cases]
        if not self.options.yardsticks:
            return plain, [None] * len(cases), [None] * len(cases)

        self.pipe.text_encoder.set_attn_implementation("eager")
        self.pipe.transformer.set_attention_backend("_native_math")
        own = [self.encode(x) for x in (self.options.prompt, self.options.negative_prompt)]
        other = [self.run(case, noises[case.size], own, fed) for case in cases]

        self.pipe.text_encoder.set_attn_implementation("sdpa")
        self.pipe.transformer.set_attention_backend("native")
        self.pipe.text_encoder.to(self.torch.float32)
        own = [self.encode(x) for x in (self.options.prompt, self.options.negative_prompt)]
        self.pipe.text_encoder = None  # room for the transformer, which doubles too
        self.empty_cache()
        self.pipe.transformer.to(self.torch.float32)
        self.pipe.vae.to(self.torch.float32)
        exact = [self.run(case, noises[case.size], own, fed) for case in cases]
        return plain, other, exact

    def empty_cache(self):
        gc.collect()
        if self.options.device == "cuda":
            self.torch.cuda.empty_cache()

    def close(self):
        self.pipe = None
        self.empty_cache()


def decode(options, folder, latents, size):
    """diffusers' picture of final latents, by the pipeline's own last lines."""
    import diffusers
    import torch

    dtype = getattr(torch, options.dtype)
    vae = diffusers.AutoencoderKLFlux2.from_pretrained(folder / "vae", dtype=dtype).to(options.device)
    pipeline = diffusers.Flux2KleinPipeline
    grid = pipeline._prepare_latent_ids(torch.zeros(1, 1, size // 16, size // 16)).to(options.device)
    x = torch.from_numpy(latents).to(options.device, dtype)
    x = pipeline._unpack_latents_with_ids(x, grid, size // 16, size // 16)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(dtype)
    x = pipeline._unpatchify_latents(x * deviation + vae.bn.running_mean.view(1, -1, 1, 1).to(dtype))
    processor = diffusers.pipelines.flux2.image_processor.Flux2ImageProcessor(vae_scale_factor=16)
    picture = np.asarray(processor.postprocess(vae.decode(x, return_dict=False)[0], output_type="pil")[0])
    del vae, x
    gc.collect()
    if options.device == "cuda":
        torch.cuda.empty_cache()
    return picture


def to_numpy(tensor):
    return tensor.detach().float().cpu().numpy()


def tokens(grid):
    """[1, C, h, w] -> [1, h w, C]"""
    return np.ascontiguousarray(grid.reshape(1, grid.shape[1], -1).transpose(0, 2, 1))


# --- klein -------------------------------------------------------------------------------------------------------------


class Klein:
    """The program, one process a run."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.folders = {flag: self.variant(flag) for flag in (False, True)}

    def variant(self, guided):
        """The checkpoint as distilled or base model, by links."""
        folder = self.work / ("base" if guided else "distilled")
        folder.mkdir()
        for part in self.options.model.resolve().iterdir():
            if part.is_dir():
                (folder / part.name).symlink_to(part)
        index = json.loads((self.options.model / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"is_distilled": not guided}))
        return folder

    def generate(self, case, *arguments):
        command = [self.options.klein, "generate", self.options.prompt, "--model", self.folders[case.guided], "--json",
                   "--quiet", "--dtype", self.options.dtype, "--device", "cpu" if self.options.device == "cpu" else "gpu",
                   "--latents", self.work / f"noise-{case.size}.safetensors", "--save-latents", self.work / "latents.safetensors",
                   "--output", self.work / f"{case}-klein.png", "--overwrite", *arguments]
        if case.guided:
            command += ["--guidance", self.options.guidance, "--negative-prompt", self.options.negative_prompt]
        # In float32, products are to be of float32 numbers, as diffusers' are here.
        done = subprocess.run([str(x) for x in command], env=os.environ | {"MLX_ENABLE_TF32": "0"}, capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise SystemExit(f"{case}: klein ended with status {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def run(self, case, noise):
        from PIL import Image
        from safetensors.numpy import load_file

        self.generate(case, "--sigmas", "1.0", "--prompt-embeds", self.work / "fed.safetensors")
        one_step = load_file(self.work / "latents.safetensors")["latents"]
        embeds = self.work / "embeds.safetensors"
        report = self.generate(case, "--steps", self.options.steps, "--save-prompt-embeds", embeds)
        return {"prompt embeddings": read_embeds(embeds), "first velocity": tokens(noise) - one_step,
                "final latents": load_file(self.work / "latents.safetensors")["latents"],
                "picture": np.asarray(Image.open(self.work / f"{case}-klein.png").convert("RGB")), "report": report}


def read_embeds(path):
    from safetensors.torch import load_file  # numpy has no bfloat16

    return to_numpy(load_file(path)["prompt_embeds"])


# --- the whole ---------------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, text):
        kind, _, size = text.partition("-")
        if kind not in ("distilled", "cfg") or not size.isdigit() or int(size) % 16 or int(size) < 64:
            raise argparse.ArgumentTypeError(f"expected distilled-SIZE or cfg-SIZE, SIZE a multiple of 16, got '{text}'")
        self.text, self.guided, self.size = text, kind == "cfg", int(size)

    def __str__(self):
        return self.text


def number(value, form):
    return "" if value is None else format(value, form)


def table_line(cells):
    return "| " + " | ".join(cells) + " |"


def table_head(*names):
    return table_line(names) + "\n|" + "---|" * len(names)


def print_rows(case, rows):
    for row in rows:
        part, similar, worst, error, decibels, *yardsticks = row
        form = ".2e" if decibels is None else ".2f"
        print(table_line([str(case), part, number(similar, ".7f"), number(worst, ".7f"), number(error, ".2e"),
                          number(decibels, ".2f"), *(number(x, form) for x in yardsticks),
                          "yes" if passes(row) else "NO"]), flush=True)


def print_costs(cases, reference, plain, klein):
    """Seconds and memory as each side counts it: arrays that are alive, not what an allocator keeps."""
    print("\n" + table_head("case", "diffusers: text, s", "steps", "decode", "peak, GB", "klein: load, s", "text", "steps",
                            "best step", "decode", "peak, GB"))
    for case, theirs, ours in zip(cases, plain, klein):
        report = ours["report"]
        seconds = report["seconds"]
        print(table_line([
            str(case), f"{reference.text_seconds:.2f}", f"{theirs['seconds']['steps']:.2f}",
            f"{theirs['seconds']['decode']:.2f}", number(theirs["peak"] and theirs["peak"] / 1e9, ".1f"),
            *(f"{seconds[x]:.2f}" for x in ("load", "encode_text", "denoise")), f"{min(report['step_seconds']):.3f}",
            f"{seconds['decode']:.2f}", f"{report['peak_memory_bytes'] / 1e9:.1f}"]))


def say(text, start=time.perf_counter()):
    print(f"[{time.perf_counter() - start:6.1f} s] {text}", file=sys.stderr, flush=True)


def run(options, work):
    from PIL import Image
    from safetensors.torch import save_file
    import torch

    if not options.model.exists():
        if not options.size or not options.tokenizer:
            raise SystemExit(f"expected a model folder, found none: {options.model}\n"
                             "hint: give --size and --tokenizer to have one with random weights written there")
        say(f"writing {options.model}")
        random_checkpoint.write(options.size, options.tokenizer, options.model)

    noises = {}
    for size in {case.size for case in options.case}:
        shape = (1, 128, size // 16, size // 16)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(options.seed))
        noises[size] = noise.to(getattr(torch, options.dtype)).float().numpy()  # what both sides see
        save_file({"latents": torch.from_numpy(noises[size])}, work / f"noise-{size}.safetensors")

    say("diffusers: loading")
    reference = Reference(options, options.model)
    say("diffusers: running")
    plain, other, exact = reference.run_all(options.case, noises)
    reference.close()
    fed = torch.from_numpy(plain[0]["prompt embeddings"]).to(getattr(torch, options.dtype))
    save_file({"prompt_embeds": fed}, work / "fed.safetensors")

    print(f"{options.model.name}, {options.dtype}, {reference.name}\n")
    print(table_head("case", "stage", "cosine", "worst token", "relative error", "PSNR, dB", "klein to float32",
                     "diffusers to float32", "plain attention", "within bounds"), flush=True)
    program, klein, good = Klein(options, work), [], True
    for i, case in enumerate(options.case):
        say(f"klein: {case}")
        klein.append(program.run(case, noises[case.size]))
        plain[i]["decoded"] = decode(options, options.model, klein[i]["final latents"], case.size)
        Image.fromarray(plain[i]["picture"]).save(work / f"{case}-diffusers.png")
        rows = compare(klein[i], plain[i], other[i], exact[i])
        print_rows(case, rows)
        good = good and all(passes(row) for row in rows)
    print_costs(options.case, reference, plain, klein)
    say("done")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--klein", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="checkpoint; written if it does not exist")
    parser.add_argument("--size", choices=random_checkpoint.SIZES, help="of the checkpoint to write")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer folder for the checkpoint to write")
    parser.add_argument("--case", type=Case, action="append", help="distilled-SIZE or cfg-SIZE; may be repeated "
                        "[distilled-512 distilled-1024 cfg-512 cfg-1024]")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of both sides [bfloat16]")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), default="cuda", help="of both sides [cuda]")
    parser.add_argument("--steps", type=int, default=4, help="[4]")
    parser.add_argument("--guidance", type=float, default=4.0, help="of the cfg cases [4]")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--negative-prompt", default=NEGATIVE, help="of the cfg cases")
    parser.add_argument("--seed", type=int, default=0, help="of the noise [0]")
    parser.add_argument("--no-yardsticks", dest="yardsticks", action="store_false",
                        help="diffusers as it is only: saves time, and the memory of float32 weights")
    parser.add_argument("--work", type=pathlib.Path, help="folder to make and keep the files in [a temporary one]")
    options = parser.parse_args()
    options.case = options.case or [Case(x) for x in ("distilled-512", "distilled-1024", "cfg-512", "cfg-1024")]
    options.klein = options.klein.resolve()

    with contextlib.ExitStack() as stack:
        if options.work:
            options.work.mkdir(parents=True)
            work = options.work
        else:
            work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sys.exit(0 if run(options, work) else 1)


if __name__ == "__main__":
    main()
