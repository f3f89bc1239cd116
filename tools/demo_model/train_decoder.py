"""Train the VAE's decoder alone, half on pictures as the transformer draws them and half on pictures as the encoder sees them.

What a caption or an edit asks for is one exact picture, so the decoder can learn to mend what the transformer leaves blurred. Latents
stay what they are, and with them all that was trained on them. Writes vae.safetensors (float32), vae.json and vae.png as train_vae.py does.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from gpu_scenes import build_tasks
from latents import parse_stream
from networks import unpack
from paint import Painter
from parallel import Budget, Group
from sampling import sample, start_noise
from scenes import CANVAS, load_subjects
from train_vae import LATENT_NOISE, canonical_batch, qualities, reconstruction_loss, save_sheet, save_weights

#: what is drawn: a stream, whether its references are read once, and its share of all pictures
DRAWN = (("256x256+0", False, 0.36), ("256x256+1", False, 0.18), ("256x256+1", True, 0.14), ("256x256+2", False, 0.06), ("256x256+2", True, 0.06),
         ("384x256+0", False, 0.12), ("384x256+1", False, 0.08))
#: share of the steps on the larger canvas
LARGER = 0.2
#: drawn pictures of every kind that are kept for measuring
KEPT = 256


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the trained transformer and text encoder, or a model")
    parser.add_argument("--vae", type=Path, required=True, help="the VAE to go on from")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time, drawing and compiling included (0: no limit)")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: no limit)")
    parser.add_argument("--batch", type=int, default=32, help="256x256 pictures per step")
    parser.add_argument("--pictures", type=int, default=30000, help="that are drawn before training")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compile-only", metavar="CANVAS", help="compile for a canvas into the compiler's cache and stop")
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def batch_size(args, canvas) -> int:
    """Fewer of larger pictures."""
    return max(4, args.batch * CANVAS * CANVAS // (canvas[0] * canvas[1]))


def _job(job):
    return build_tasks(*job)


@torch.no_grad()
def draw_tasks(painter: Painter, name: str, once: bool, built) -> tuple:
    """(what the transformer makes of tasks, in 4 steps, as tokens; rows and steers of the exact pictures)."""
    rows, steers, ids, lengths = (torch.from_numpy(a).to(painter.device) for a in built)
    (width, height), references = parse_stream(name)
    grid, given = (height // 16, width // 16), None
    if references:
        pictures = painter.renderer.scenes(rows[:, 1:].flatten(0, 1).long(), steers[:, 1:].flatten(0, 1), (width, height))
        given = torch.cat([painter.encoder.encode(p) for p in pictures.split(128)]).unflatten(0, (len(rows), references))
    noise = start_noise(steers[:, 0, :4], references, grid[0] * grid[1])
    with painter.encoder.autocast():
        clean = sample(painter.net, painter.text(ids[:, 0].long(), lengths[:, 0].long()), noise, grid, given, once=once)
    return clean.bfloat16(), rows[:, 0], steers[:, 0]


def draw_all(painter: Painter, built) -> dict[tuple[int, int], list[tuple]]:
    """Canvas -> the drawn tasks of every kind: tokens, rows, steers."""
    drawn: dict = {}
    for (name, once), parts in built.items():
        done = [draw_tasks(painter, name, once, part.get()) for part in parts]
        drawn.setdefault(parse_stream(name)[0], []).append(tuple(torch.cat(x) for x in zip(*done)))
    return drawn


class Source:
    """Batches of latents [B, 32, h, w] with the pictures that they stand for, of one canvas."""

    def __init__(self, painter: Painter, canvas, kinds: list[tuple], seed: int):
        self.painter, self.canvas, self.grid = painter, canvas, (canvas[1] // 16, canvas[0] // 16)
        kept = min(KEPT, *(len(kind[0]) // 4 for kind in kinds))
        self.tokens, self.rows, self.steers = (torch.cat([x[kept:] for x in column]) for column in zip(*kinds))
        self.measured = [tuple(x[:kept] for x in kind) for kind in kinds]
        self.rng, self.subjects = random.Random(seed), len(load_subjects())

    def latents(self, tokens):
        encoder = self.painter.encoder
        return unpack(tokens.float() * encoder.spread + encoder.mean, *self.grid)

    def batch(self, size: int):
        renderer, drawn = self.painter.renderer, size // 2
        index = torch.randint(len(self.tokens), (drawn,), device=self.tokens.device)
        share = (size - drawn) // 2
        seen = torch.cat([canonical_batch(renderer, share, self.rng, self.subjects, self.canvas), renderer.scatter(size - drawn - share, self.canvas)])
        with torch.no_grad(), self.painter.encoder.autocast():
            latent = self.painter.encoder.vae.encode(seen.contiguous(memory_format=torch.channels_last)).latent_dist.mean.float()
        latent += torch.randn_like(latent) * latent.std((0, 2, 3), keepdim=True) * LATENT_NOISE
        pictures = torch.cat([renderer.scenes(self.rows[index].long(), self.steers[index], self.canvas), seen])
        return torch.cat([self.latents(self.tokens[index]), latent]).contiguous(memory_format=torch.channels_last), pictures

    @torch.no_grad()
    def quality(self) -> list[float]:
        """Median PSNR in dB of drawn pictures that are not trained on, for every kind."""
        result = []
        for tokens, rows, steers in self.measured:
            errors = []
            for part, row, steer in zip(tokens.split(32), rows.split(32), steers.split(32)):
                exact = self.painter.renderer.scenes(row.long(), steer, self.canvas)
                errors.append((self.painter.encoder.decode(part.float(), *self.grid) - exact).square().mean((1, 2, 3)))
            result.append(round((10 * torch.log10(4 / torch.cat(errors))).median().item(), 2))
        return result


def main() -> None:
    args, began = arguments(), time.time()
    chunk = 512 if args.device == "cuda" else 4
    with get_context("fork").Pool(args.workers) as pool:
        built = {}
        for number, (name, once, share) in enumerate(DRAWN if not args.compile_only else ()):
            canvas, references = parse_stream(name)
            count = -(-int(args.pictures * share) // chunk)
            built[name, once] = [pool.apply_async(_job, ((chunk, references, canvas, 1, (args.seed * 100 + number) * 1000 + i, args.tokenizer),))
                                 for i in range(count)]
        helper = None
        if not (args.no_compile or args.compile_only):
            helper = subprocess.Popen([sys.executable, *sys.argv, "--compile-only", "384x256"])
        train(args, began, built, helper)


def train(args, began: float, built: dict, helper) -> None:
    group = Group(args.device)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    painter = Painter(args.weights, args.vae, args.tokenizer, args.device)
    vae, autocast = painter.encoder.vae, painter.encoder.autocast
    sources = [Source(painter, canvas, kinds, args.seed + i) for i, (canvas, kinds) in enumerate(draw_all(painter, built).items())]
    measured = {"pictures": args.pictures, "before": [s.quality() for s in sources]}
    print(f"drawn by {time.time() - began:.0f} s: {[len(s.tokens) for s in sources]}, median PSNR {measured['before']}", flush=True)
    parameters = [p for part in (vae.post_quant_conv, vae.decoder) for p in part.requires_grad_(True).parameters()]
    plain = vae.decoder
    if not args.no_compile:
        vae.decoder = torch.compile(vae.decoder, dynamic=False)
    if args.compile_only:
        width, height = canvas = parse_stream(args.compile_only + "+0")[0]
        latent = torch.zeros(batch_size(args, canvas), 32, height // 8, width // 8, device=painter.device)
        with autocast():
            out = vae.decode(latent.contiguous(memory_format=torch.channels_last)).sample
        out.float().mean().backward()
        return
    optimizer = torch.optim.AdamW(parameters, args.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=args.device == "cuda")
    average = [p.detach().clone() for p in parameters]
    left = max(1.0, args.seconds - (time.time() - began)) if args.seconds else 0.0
    budget, larger = Budget(group, args.steps, left), random.Random(args.seed)
    while budget.advance():
        which = int(larger.random() < LARGER)
        if which and helper:
            helper.wait()
            helper = None
        optimizer.param_groups[0]["lr"] = args.rate * min(1.0, budget.step / 100) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * budget.fraction)))
        latent, picture = sources[which].batch(batch_size(args, sources[which].canvas))
        with autocast():
            out = vae.decode(latent).sample
        loss = reconstruction_loss(out.float(), picture)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(0.998, budget.step / (budget.step + 10)))
        if budget.step % 500 == 0 or budget.step in (1, 20):
            print(f"decoder step {budget.step} {budget.elapsed:.0f} s loss {loss.item():.4f}", flush=True)
    vae.decoder = plain
    with torch.no_grad():
        for p, a in zip(parameters, average):
            p.copy_(a)
    save_weights(vae, parameters, average, args.out / "vae.safetensors")
    subjects = len(load_subjects())
    record = {"steps": budget.step, "seconds": round(time.time() - began, 1), "batch": args.batch, "seed": args.seed, **measured,
              "after": [s.quality() for s in sources],
              "psnr_held_out": qualities(vae.eval(), painter.renderer, subjects, 256 if args.device == "cuda" else 2, autocast)}
    (args.out / "vae.json").write_text(json.dumps(record) + "\n")
    print(record, flush=True)
    save_sheet(vae, painter.renderer, subjects, 6 if args.device == "cuda" else 2, autocast, args.out / "vae.png")


if __name__ == "__main__":
    main()
