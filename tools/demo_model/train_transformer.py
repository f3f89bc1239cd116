"""Train the transformer and the text encoder together on cached latents.

First with the usual flow-matching loss, half of it at the four noise levels that the 4-step schedule visits; then on the states
that the 4-step sampler itself reaches, each step regressing to the true picture (which is what makes four steps enough).
Writes transformer.safetensors, text_encoder.safetensors (bfloat16, averaged weights) and train.json. Run alone or under torchrun.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gpu_scenes import Renderer, build_scenes
from muon import Muon, split_parameters
from networks import TextEncoder, make_transformer, make_vae, pack, parameter_count, position_ids, velocity
from parallel import Budget, Group
from sampling import STEERED, schedule, steered_noise
from scenes import load_subjects
from sprites import FONT, build_atlas, load_glyphs
from tokens import MAX_TOKENS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True, help="vae.safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--glyphs", type=Path, default=FONT)
    parser.add_argument("--resume", type=Path, help="a folder with transformer.safetensors and text_encoder.safetensors")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time, caching included (0: no limit)")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: no limit)")
    parser.add_argument("--batch", type=int, default=256, help="pictures per process and step")
    parser.add_argument("--scenes", type=int, default=80000, help="cached pictures per process")
    parser.add_argument("--wordings", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.02, help="Muon's; AdamW takes a tenth of it")
    parser.add_argument("--decay-from", type=float, default=0.5, help="share of the training after which rates fall to 0")
    parser.add_argument("--rollout-from", type=float, default=0.6, help="share after which the sampler's own states are used")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for the VAE's file, compiling meanwhile")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--seed", type=int, default=2)
    return parser.parse_args()


def wait_for(path: Path, seconds: float) -> None:
    end = time.time() + seconds
    while not path.exists() and time.time() < end:
        time.sleep(0.5)


class Cache:
    """Normalized latents, shades with poses, and captions of many scenes, on the device."""

    def __init__(self, args, device, built, autocast):
        rows, ids, lengths = built
        self.ids, self.lengths = torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)
        self.steering = torch.randn(len(rows), STEERED, device=device)
        self.tokens = torch.empty(len(rows), 256, 128, dtype=torch.bfloat16, device=device)
        renderer = Renderer(build_atlas(load_glyphs(args.glyphs, load_subjects())), device)
        vae = make_vae().to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        plain = vae.encoder
        if not args.no_compile:
            vae.encoder = torch.compile(vae.encoder)
            self.encode(vae, renderer, torch.from_numpy(rows[:min(64, len(rows))]).long().to(device), None, autocast)
        wait_for(args.vae, args.wait)
        fast, vae.encoder = vae.encoder, plain
        vae.load_state_dict(load_file(args.vae))
        vae.encoder = fast
        mean, spread = vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
        rows = torch.from_numpy(rows).long().to(device)
        size = min(64, len(rows))
        for start in range(0, len(rows), size):
            start = min(start, len(rows) - size)
            part = slice(start, start + size)
            latent = self.encode(vae, renderer, rows[part], self.steering[part], autocast)
            self.tokens[part] = ((pack(latent) - mean) / spread).bfloat16()

    @staticmethod
    @torch.no_grad()
    def encode(vae, renderer, rows, steering, autocast):
        shade, pose = (None, None) if steering is None else (steering[:, :2], steering[:, 2:])
        picture = renderer.scenes(rows, shade, pose).contiguous(memory_format=torch.channels_last)
        with autocast():
            return vae.encode(picture).latent_dist.mean.float()

    def draw(self, batch: int):
        device = self.tokens.device
        index = torch.randint(len(self.tokens), (batch,), device=device)
        wording = torch.randint(self.ids.shape[1], (batch,), device=device)
        return (self.tokens[index].float(), self.steering[index], self.ids[index, wording].long(),
                self.lengths[index, wording].long())


def plain_loss(net, text, clean, steering, ids, levels):
    """Flow matching: half of the batch at the sampler's own noise levels, half anywhere along such schedules."""
    batch, device = len(clean), clean.device
    stretch = torch.exp(torch.rand(batch, device=device) * 0.5 + 1.55)
    anywhere = stretch / (stretch + 1 / torch.rand(batch, device=device).clamp(1e-3, 1) - 1)
    exact = levels[torch.randint(len(levels), (batch,), device=device)]
    sigma = torch.where(torch.rand(batch, device=device) < 0.5, exact, anywhere)
    noise = steered_noise(steering)
    x = (1 - sigma[:, None, None]) * clean + sigma[:, None, None] * noise
    return (velocity(net, x, text, sigma, ids).float() - (noise - clean)).square().mean()


def rollout_loss(net, text, clean, steering, ids, levels):
    """All steps of the sampler from noise; every step aims from where the sampler really is at the true picture."""
    x, total, following = steered_noise(steering), 0.0, torch.cat([levels[1:], levels.new_zeros(1)])
    for now, after in zip(levels, following):
        v = velocity(net, x, text, now.repeat(len(x)), ids).float()
        total = total + (v - (x - clean) / now).square().mean()
        x = x + (after - now) * v.detach()
    return total / len(levels)


def warm_up(net, encoder, batch: int, ids, levels, autocast) -> None:
    """Compile forward and backward passes on made-up data."""
    device = levels.device
    with autocast():
        text = encoder(torch.zeros(batch, MAX_TOKENS, dtype=torch.long, device=device), torch.full((batch,), 20, device=device))
        loss = plain_loss(net, text, torch.zeros(batch, 256, 128, device=device), torch.zeros(batch, STEERED, device=device), ids, levels)
    loss.backward()


def rate_factor(step: int, fraction: float, decay_from: float) -> float:
    return min(1.0, step / 150) * min(1.0, (1 - fraction) / (1 - decay_from) + 0.003)


def save(args, group: Group, names, average, record: dict) -> None:
    if not group.first:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    for prefix in ("transformer", "text_encoder"):
        tensors = {n.removeprefix(prefix + "."): a.bfloat16().contiguous() for n, a in zip(names, average) if n.startswith(prefix + ".")}
        save_file(tensors, args.out / f"{prefix}.safetensors")
    (args.out / "train.json").write_text(json.dumps(record) + "\n")


def main() -> None:
    args, began = arguments(), time.time()
    group = Group(args.device)
    built = build_scenes(args.scenes, args.wordings, args.seed * 50 + group.rank, args.tokenizer, args.workers)
    group.start()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    net, encoder = make_transformer(), TextEncoder()
    if args.resume:
        net.load_state_dict({k: v.float() for k, v in load_file(args.resume / "transformer.safetensors").items()})
        encoder.load_state_dict({k: v.float() for k, v in load_file(args.resume / "text_encoder.safetensors").items()})
    net.to(group.device), encoder.to(group.device)
    group.same_start([net, encoder])
    torch.manual_seed(args.seed * 100 + group.rank)

    def autocast():
        return torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda")

    named = [("transformer." + n, p) for n, p in net.named_parameters()] + \
            [("text_encoder." + n, p) for n, p in encoder.named_parameters()]
    names, parameters = [n for n, _ in named], [p for _, p in named]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    matrices, rest = split_parameters(named)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, args.rate / 10, betas=(0.9, 0.98), weight_decay=0.0, fused=group.device.type == "cuda")
    average = [p.detach().clone() for p in parameters]
    fast_net, fast_encoder = (net, encoder) if args.no_compile else (torch.compile(net), torch.compile(encoder))
    levels = torch.tensor(schedule(4)[:-1], device=group.device, dtype=torch.float32)
    ids = position_ids(group.device)
    if not args.no_compile:
        warm_up(fast_net, fast_encoder, args.batch, ids, levels, autocast)
    cache = Cache(args, group.device, built, autocast)
    group.say(f"{parameter_count(net):.2f} + {parameter_count(encoder):.2f} M parameters; cached {args.scenes} pictures per process "
              f"by {time.time() - began:.0f} s")
    left = max(1.0, args.seconds - (time.time() - began)) if args.seconds else 0.0
    budget, losses, saved = Budget(group, args.steps, group.agree(left)), {}, time.time()
    while budget.advance():
        clean, steering, tokens, lengths = cache.draw(args.batch)
        own_states = budget.fraction >= args.rollout_from and budget.step % 4 != 0
        with autocast():
            text = fast_encoder(tokens, lengths)
            loss = (rollout_loss if own_states else plain_loss)(fast_net, text, clean, steering, ids, levels)
        torch._foreach_zero_([p.grad for p in parameters])
        loss.backward()
        group.average_gradients(parameters)
        factor = rate_factor(budget.step, budget.fraction, args.decay_from)
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        adam.param_groups[0]["lr"] = args.rate / 10 * factor
        adam.step()
        muon.step(args.rate * factor)
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(0.998, budget.step / (budget.step + 20)))
        kind = "own" if own_states else "plain"
        losses.setdefault(kind, []).append(loss.detach())
        if budget.step % 250 == 0 or budget.step in (1, 2, 20):
            text_losses = ", ".join(f"{k} {torch.stack(v).mean().item():.4f}" for k, v in losses.items())
            group.say(f"step {budget.step} {budget.elapsed:.0f} s loss {text_losses} rate x{factor:.3f}")
            losses = {}
        if time.time() - saved > 100:
            save(args, group, names, average, {"steps": budget.step, "finished": False})
            saved = time.time()
    record = {"steps": budget.step, "seconds": round(time.time() - began, 1), "processes": group.size, "seed": args.seed,
              "batch": args.batch * group.size, "pictures": args.scenes * group.size, "finished": True}
    save(args, group, names, average, record)
    group.say(record)
    group.close()


if __name__ == "__main__":
    main()
