"""Train the VAE on whole 256x256 pictures until it is sharp, then measure the latents' statistics.

Writes vae.safetensors (float32) and vae.json. Run alone or under torchrun.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from gpu_scenes import Renderer, scene_row
from networks import make_vae, pack, parameter_count
from parallel import Budget, Group
from scenes import load_subjects, random_scene
from sprites import FONT, build_atlas, load_glyphs

#: noise added to latents in training, relative to their spread, so that small errors of the transformer stay invisible
LATENT_NOISE = 0.06


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--glyphs", type=Path, default=FONT)
    parser.add_argument("--resume", type=Path, help="a vae.safetensors to go on from")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time (0: no limit)")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: no limit)")
    parser.add_argument("--batch", type=int, default=16, help="pictures per process and step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def canonical_batch(renderer: Renderer, batch: int, rng: random.Random, subjects: int, held_out: bool = False):
    rows = torch.tensor([scene_row(random_scene(rng, subjects, held_out)) for _ in range(batch)])
    rows = rows.to(renderer.device, non_blocking=True)
    return renderer.scenes(rows, torch.randn(batch, 2, device=renderer.device))


def reconstruction_loss(out, picture):
    """L1 of pixels, of their differences to neighbours (edges) and of the half-size picture, and a little L2."""
    error = out - picture
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 0.5 * edges + 0.5 * F.avg_pool2d(error, 4).abs().mean() + 0.5 * error.square().mean()


def set_statistics(vae, renderer, rng, subjects, pictures: int, autocast, group: Group) -> None:
    """Mean and variance of every latent channel over training scenes, into the VAE's batch norm."""
    total, square, count = 0.0, 0.0, 0
    with torch.no_grad():
        for _ in range(max(1, pictures // 32)):
            with autocast():
                mean = vae.encode(canonical_batch(renderer, min(32, pictures), rng, subjects)).latent_dist.mean
            tokens = pack(mean.float()).flatten(0, 1).double()
            total, square, count = total + tokens.sum(0), square + tokens.square().sum(0), count + len(tokens)
    mean, square = group.average(total / count), group.average(square / count)
    vae.bn.running_mean.copy_(mean)
    vae.bn.running_var.copy_(square - mean.square())


def psnr(vae, renderer, rng, subjects, pictures: int, autocast) -> float:
    """Mean PSNR in dB over held-out scenes."""
    values = []
    with torch.no_grad():
        for _ in range(max(1, pictures // 16)):
            picture = canonical_batch(renderer, min(16, pictures), rng, subjects, held_out=True)
            with autocast():
                out = vae.decode(vae.encode(picture).latent_dist.mean).sample
            values += (10 * torch.log10(4 / (out.float().clamp(-1, 1) - picture).square().mean((1, 2, 3)))).tolist()
    return sum(values) / len(values)


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
    renderer = Renderer(build_atlas(load_glyphs(args.glyphs, subjects)), group.device)
    vae = make_vae()
    if args.resume:
        vae.load_state_dict(load_file(args.resume))
    silence_variance(vae)
    vae.to(group.device, memory_format=torch.channels_last)
    group.same_start([vae])
    torch.manual_seed(args.seed * 100 + group.rank)
    rng = random.Random(args.seed * 100 + group.rank)
    group.say(f"vae {parameter_count(vae):.2f} M parameters, {group.size} processes on {group.device}")

    def autocast():
        return torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda")

    plain = (vae.encoder, vae.decoder)
    if not args.no_compile:
        vae.encoder, vae.decoder = torch.compile(vae.encoder), torch.compile(vae.decoder)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.rate, betas=(0.9, 0.99), weight_decay=1e-4,
                                  fused=group.device.type == "cuda")
    average = [p.detach().clone() for p in parameters]
    budget, began = Budget(group, args.steps, args.seconds), time.time()
    while budget.advance():
        rate = args.rate * min(1.0, budget.step / 200) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * budget.fraction)))
        optimizer.param_groups[0]["lr"] = rate
        share = max(1, args.batch * 2 // 3)
        picture = torch.cat([canonical_batch(renderer, share, rng, len(subjects)), renderer.scatter(args.batch - share, rng)]
                            if args.batch > 1 else [renderer.scatter(1, rng)])
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
    with torch.no_grad():
        for p, a in zip(parameters, average):
            p.copy_(a)
    silence_variance(vae)
    vae.encoder, vae.decoder = plain
    vae.eval()
    pictures = 512 if group.device.type == "cuda" else 2
    set_statistics(vae, renderer, rng, len(subjects), pictures, autocast, group)
    quality = psnr(vae, renderer, random.Random(77), len(subjects), min(256, pictures), autocast)
    if group.first:
        args.out.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, args.out / "vae.part")
        (args.out / "vae.part").rename(args.out / "vae.safetensors")
        record = {"steps": budget.step, "seconds": round(time.time() - began, 1), "processes": group.size,
                  "batch": args.batch * group.size, "psnr_held_out": round(quality, 2), "seed": args.seed}
        (args.out / "vae.json").write_text(json.dumps(record) + "\n")
        print(record, flush=True)
    group.close()


if __name__ == "__main__":
    main()
