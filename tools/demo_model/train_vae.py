"""Train the VAE on whole pictures of several sizes until it is sharp, then measure the latents' statistics.

Writes vae.safetensors (float32), every --save seconds and at the end, and at the end vae.json and vae.png (pictures above what the
VAE makes of them). Run alone or under torchrun.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from edits import Picture, picture_row
from gpu_scenes import Renderer
from networks import make_vae, pack, parameter_count
from parallel import Budget, Group
from scenes import CANVAS, CANVASES, load_subjects, random_scene
from sprites import build_atlas, load_glyphs

#: noise added to latents in training, relative to their spread, so that small errors of the transformer stay invisible
LATENT_NOISE = 0.06


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a vae.safetensors to go on from")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time (0: no limit)")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: no limit)")
    parser.add_argument("--batch", type=int, default=16, help="256x256 pictures per process and step; fewer of larger ones")
    parser.add_argument("--canvases", nargs="+", default=[f"{w}x{h}" for w, h in CANVASES], choices=[f"{w}x{h}" for w, h in CANVASES],
                        help="shared out among the processes, since every canvas that a process sees is compiled anew")
    parser.add_argument("--save", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def canonical_batch(renderer: Renderer, batch: int, rng: random.Random, subjects: int, canvas, held_out: bool = False,
                    posed: float = 0.7):
    """Scenes that captions describe, a share of them with sprites scaled and tilted a little."""
    rows = torch.tensor([picture_row(Picture(random_scene(rng, subjects, held_out, canvas=canvas)))[0] for _ in range(batch)])
    rows, device = rows.to(renderer.device, non_blocking=True), renderer.device
    steers = torch.randn(batch, 6, device=device)
    steers[:, 2:] *= torch.rand(batch, 1, device=device) < posed
    return renderer.scenes(rows, steers, canvas)


def reconstruction_loss(out, picture):
    """L1 of pixels, of their differences to neighbours (edges) and of the quarter-size picture, and a little of every picture's PSNR."""
    error = out - picture
    squares = error.square().mean((1, 2, 3)).clamp_min(1e-5)
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 0.5 * edges + 0.5 * F.avg_pool2d(error, 4).abs().mean() + 0.01 * squares.log().mean()


def set_statistics(vae, renderer, rng, subjects, pictures: int, autocast, group: Group) -> None:
    """Mean and variance of every latent channel over training scenes of all canvases, into the VAE's batch norm."""
    total, square, count = 0.0, 0.0, 0
    with torch.no_grad():
        for index in range(max(1, pictures // 32)):
            picture = canonical_batch(renderer, min(32, pictures), rng, subjects, CANVASES[index % len(CANVASES)])
            with autocast():
                mean = vae.encode(picture).latent_dist.mean
            tokens = pack(mean.float()).flatten(0, 1).double()
            total, square, count = total + tokens.sum(0), square + tokens.square().sum(0), count + len(tokens)
    mean, square = group.average(total / count), group.average(square / count)
    vae.bn.running_mean.copy_(mean)
    vae.bn.running_var.copy_(square - mean.square())


@torch.no_grad()
def reconstruct(vae, picture, autocast):
    with autocast():
        return vae.decode(vae.encode(picture).latent_dist.mean).sample.float().clamp(-1, 1)


def qualities(vae, renderer, subjects, pictures: int, autocast) -> dict[str, float]:
    """Mean PSNR in dB over held-out scenes of every canvas, over such scenes with poses, and over free compositions."""
    def batches(canvas, posed=0.0):
        rng = random.Random(77)
        torch.manual_seed(77)
        for _ in range(max(1, pictures // 16)):
            yield canonical_batch(renderer, min(16, pictures), rng, subjects, canvas, held_out=True, posed=posed)

    def mean_psnr(pictures):
        errors = torch.cat([(reconstruct(vae, p, autocast) - p).square().mean((1, 2, 3)) for p in pictures])
        return round((10 * torch.log10(4 / errors)).mean().item(), 2)

    result = {f"{c[0]}x{c[1]}": mean_psnr(batches(c)) for c in CANVASES}
    result["posed"] = mean_psnr(batches((CANVAS, CANVAS), 1.0))
    result["free"] = mean_psnr(renderer.scatter(min(16, pictures)) for _ in range(max(1, pictures // 16)))
    return result


def save_sheet(vae, renderer, subjects, columns: int, autocast, path: Path) -> None:
    """Held-out scenes of three canvases above what the VAE makes of them."""
    rows = []
    for canvas in CANVASES[:3]:
        picture = canonical_batch(renderer, columns, random.Random(5), subjects, canvas, held_out=True)
        rows += [torch.cat(list(p), 2) for p in (picture, reconstruct(vae, picture, autocast))]
    width = max(r.shape[2] for r in rows)
    sheet = torch.cat([F.pad(r, (0, width - r.shape[2]), value=1.0) for r in rows], 1)
    pixels = ((sheet * 0.5 + 0.5) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def save_weights(vae, parameters, values, path: Path) -> None:
    """The state with `values` in place of the parameters, under the names of the uncompiled networks."""
    named = {id(p): v for p, v in zip(parameters, values)}
    state = vae.state_dict(keep_vars=True)
    tensors = {n.replace("_orig_mod.", ""): named.get(id(t), t).detach().contiguous() for n, t in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def silence_variance(vae) -> None:
    """Sampling from the posterior gives the mean: the variance half of the encoder's output is never trained."""
    half = vae.quant_conv.weight.shape[0] // 2
    with torch.no_grad():
        vae.quant_conv.weight[half:] = 0
        vae.quant_conv.bias[half:] = -12


def main() -> None:
    args = arguments()
    group = Group(args.device)
    group.start()
    torch.manual_seed(args.seed)
    subjects = load_subjects()
    renderer = Renderer(build_atlas(load_glyphs(subjects)), group.device)
    vae = make_vae()
    if args.resume:
        vae.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in load_file(args.resume).items()})
    silence_variance(vae)
    vae.to(group.device, memory_format=torch.channels_last)
    group.same_start([vae])
    torch.manual_seed(args.seed * 100 + group.rank)
    rng = random.Random(args.seed * 100 + group.rank)
    group.say(f"vae {parameter_count(vae):.2f} M parameters, {group.size} processes on {group.device}")

    def autocast():
        return torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda")

    subjects_count, pictures = len(subjects), 512 if group.device.type == "cuda" else 2
    if args.resume and group.first:
        group.say("before", qualities(vae.eval(), renderer, subjects_count, max(2, pictures // 8), autocast))
    vae.train()
    torch.manual_seed(args.seed * 100 + group.rank)
    sizes = [tuple(map(int, name.split("x"))) for name in args.canvases]
    sizes = sizes[group.rank::group.size] or [sizes[group.rank % len(sizes)]]
    plain = (vae.encoder, vae.decoder)
    if not args.no_compile:
        vae.encoder, vae.decoder = torch.compile(vae.encoder, dynamic=False), torch.compile(vae.decoder, dynamic=False)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.rate, betas=(0.9, 0.99), weight_decay=1e-4,
                                  fused=group.device.type == "cuda")
    average = [p.detach().clone() for p in parameters]
    budget, began, saved = Budget(group, args.steps, args.seconds), time.time(), time.time()
    while budget.advance():
        rate = args.rate * min(1.0, budget.step / 200) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * budget.fraction)))
        optimizer.param_groups[0]["lr"] = rate
        canvas = sizes[budget.step % len(sizes)]
        batch = max(2, args.batch * CANVAS * CANVAS // (canvas[0] * canvas[1]))
        share = batch * 2 // 3
        picture = torch.cat([canonical_batch(renderer, share, rng, subjects_count, canvas), renderer.scatter(batch - share, canvas)])
        with autocast():
            latent = vae.encode(picture.contiguous(memory_format=torch.channels_last)).latent_dist.mean
            spread = latent.detach().float().std((0, 2, 3), keepdim=True)
            out = vae.decode(latent + torch.randn_like(latent) * spread * LATENT_NOISE).sample
        loss = reconstruction_loss(out.float(), picture) + 1e-5 * latent.float().square().mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        vae.quant_conv.weight.grad[vae.quant_conv.weight.shape[0] // 2:] = 0
        vae.quant_conv.bias.grad[vae.quant_conv.bias.shape[0] // 2:] = 0
        group.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(0.998, budget.step / (budget.step + 10)))
        if budget.step % 200 == 0 or budget.step <= 2:
            group.say(f"vae step {budget.step} {budget.elapsed:.0f} s loss {loss.item():.4f} rate {rate:.2e}")
        if group.first and time.time() - saved > args.save:
            save_weights(vae, parameters, average, args.out / "vae.safetensors")
            saved = time.time()
    with torch.no_grad():
        for p, a in zip(parameters, average):
            p.copy_(a)
    silence_variance(vae)
    vae.encoder, vae.decoder = plain
    vae.eval()
    set_statistics(vae, renderer, rng, subjects_count, pictures, autocast, group)
    if group.first:
        save_weights(vae, parameters, average, args.out / "vae.safetensors")
        record = {"steps": budget.step, "seconds": round(time.time() - began, 1), "processes": group.size, "batch": args.batch,
                  "canvases": args.canvases, "seed": args.seed,
                  "psnr_held_out": qualities(vae, renderer, subjects_count, max(2, pictures // 2), autocast)}
        (args.out / "vae.json").write_text(json.dumps(record) + "\n")
        print(record, flush=True)
        save_sheet(vae, renderer, subjects_count, min(6, pictures), autocast, args.out / "vae.png")
    group.close()


if __name__ == "__main__":
    main()
