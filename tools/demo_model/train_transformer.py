"""Train the transformer and the text encoder together on cached latents: text to image and edits with one and two references.

Every process has streams of its own (a kind of task on one canvas), so that it compiles few sequence lengths; gradients are averaged
over the processes. A part of every batch sees true pictures with noise, half of it at the four noise levels that the 4-step schedule
visits; the rest is in the middle of being drawn by the sampler, at all four steps at once, and every step regresses from where the
sampler really is to the true picture (which is what makes four steps enough). References are read in both ways, in every step and once
for all steps, in turn: one transformer serves both pipelines. Writes transformer.safetensors, text_encoder.safetensors (bfloat16,
averaged weights) and train.json. Run alone or under torchrun.

With --base a low-rank difference to the weights of --resume is trained instead: without states of the sampler, at noise levels anywhere,
on captions that leave something open, some of them empty. Writes adapter_model.safetensors and adapter_config.json.

With --piece a run stops after so many seconds and leaves state.pt; the same command again goes on from it, until train.json says
"finished": true. Rates and averages are those of one long run; every piece draws tasks of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from low_rank import add_low_rank, save_adapter
from muon import Muon, split_parameters
from networks import TextEncoder, make_transformer, parameter_count
from parallel import Budget, Group
from streams import ONCE, Feeder, make_streams

#: what the processes train, in turn: name of a stream -> (share of its process's steps, share of its process's pictures)
PLANS = (
    {"256x256+0": (1.0, 1.0)},
    {"384x256+0": (0.25, 0.25), "320x192+0": (0.25, 0.25), "256x384+0": (0.25, 0.25), "192x320+0": (0.25, 0.25)},
    {"256x256+1": (0.7, 0.7), "320x192+1": (0.15, 0.15), "192x320+1": (0.15, 0.15)},
    {"256x256+2": (0.6, 0.6), "384x256+1": (0.2, 0.2), "256x384+1": (0.2, 0.2)},
)
#: what every process of a base model trains
BASE_PLAN = {"256x256+0": (0.5, 0.4), "384x256+0": (0.09, 0.1), "320x192+0": (0.07, 0.08), "256x384+0": (0.07, 0.08), "192x320+0": (0.07, 0.08),
             "256x256+1": (0.14, 0.18), "256x256+2": (0.06, 0.08)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True, help="vae.safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a folder with transformer.safetensors and text_encoder.safetensors, or a model")
    parser.add_argument("--base", action="store_true", help="train the base model's difference to --resume; needs it, and has no --own")
    parser.add_argument("--rank", type=int, default=32, help="of that difference")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time, compiling included (0: no limit)")
    parser.add_argument("--piece", type=float, default=0, help="pause after this time, to go on when run again (0: run to the end)")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: no limit)")
    parser.add_argument("--tokens", type=int, default=82000, help="text, picture and reference tokens per process and step")
    parser.add_argument("--pictures", type=int, default=90000, help="pictures and references that every process encodes")
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--own", type=float, default=0.5, help="share of a batch that is on the sampler's own states")
    parser.add_argument("--rate", type=float, default=0.02, help="Muon's; AdamW takes a tenth of it")
    parser.add_argument("--decay-from", type=float, default=0.5, help="share of the training after which rates fall to 0")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compile-only", metavar="STREAM", help="compile for a stream into the compiler's cache and stop")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    if args.base:
        args.own = 0.0
    return args


def plan_of(rank: int, processes: int, base: bool) -> dict[str, tuple[float, float]]:
    """The streams of a process, the plans shared out among the processes; shares sum to 1."""
    if base:
        return BASE_PLAN
    mine = [p for i, p in enumerate(PLANS) if i % processes == rank % processes] or [PLANS[rank % len(PLANS)]]
    return {name: (a / len(mine), b / len(mine)) for p in mine for name, (a, b) in p.items()}


def order_of(shares: dict[str, float], length: int = 100) -> list[str]:
    """Streams in turn, each as often as its share says and evenly spread."""
    done, order = dict.fromkeys(shares, 0.0), []
    for step in range(length):
        name = max(shares, key=lambda n: shares[n] * (step + 1) - done[n])
        done[name] += 1
        order.append(name)
    return order


def rate_factor(step: int, fraction: float, decay_from: float) -> float:
    return min(1.0, step / 150) * min(1.0, (1 - fraction) / (1 - decay_from) + 0.003)


def load_weights(net, encoder, folder: Path) -> None:
    pairs = ((net, ("transformer.safetensors", "transformer/diffusion_pytorch_model.safetensors")),
             (encoder, ("text_encoder.safetensors", "text_encoder/model.safetensors")))
    for module, names in pairs:
        path = next(folder / n for n in names if (folder / n).exists())
        module.load_state_dict({k: v.float() for k, v in load_file(path).items()})


class Trainer:
    """The networks, those of their parameters that are trained, averages of these, and the optimizers."""

    def __init__(self, args, group: Group):
        self.args, self.group = args, group
        self.net, self.encoder = make_transformer(), TextEncoder()
        if args.resume:
            load_weights(self.net, self.encoder, args.resume)
        if args.base:
            add_low_rank(self.net, args.rank)
            self.encoder.requires_grad_(False)
        self.net.to(group.device), self.encoder.to(group.device)
        if group.started:
            group.same_start([self.net, self.encoder])
        named = [(prefix + n, p) for prefix, module in (("transformer.", self.net), ("text_encoder.", self.encoder))
                 for n, p in module.named_parameters() if p.requires_grad]
        self.names, self.parameters = [n for n, _ in named], [p for _, p in named]
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        matrices, self.rest = ([], self.parameters) if args.base else split_parameters(named)
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(self.rest, args.rate / 10, betas=(0.9, 0.98), weight_decay=0.0, fused=group.device.type == "cuda")
        self.average = [p.detach().clone() for p in self.parameters]
        self.fast_net, self.fast_encoder = self.net, self.encoder

    def autocast(self):
        return torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.group.device.type == "cuda")

    def compile(self, streams, shapes: list[str], helpers) -> None:
        """Compile for a stream of every shape; `helpers` put all but the first into the compiler's cache."""
        self.fast_net, self.fast_encoder = torch.compile(self.net, dynamic=False), torch.compile(self.encoder, dynamic=False)
        for number, name in enumerate(shapes):
            if number and helpers[number - 1].wait():
                self.group.say("a compiling process failed")
            streams[name].warm_up(self.fast_net, self.fast_encoder, self.autocast)

    def step(self, stream, budget: Budget):
        """One step of all parameters; (mean loss, that on the sampler's own states, the rest's)."""
        loss, own, plain = stream.loss(self.fast_net, self.fast_encoder, self.autocast)
        torch._foreach_zero_([p.grad for p in self.parameters])
        loss.backward()
        self.group.average_gradients(self.parameters)
        factor = rate_factor(budget.step, budget.fraction, self.args.decay_from)
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        self.adam.param_groups[0]["lr"] = self.args.rate / 10 * factor
        self.adam.step()
        self.muon.step(self.args.rate * factor)
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - min(0.998, budget.step / (budget.step + 20)))
        return loss.detach(), own, plain

    def save(self, record: dict) -> None:
        """The averages as bfloat16, and a record of the training."""
        if not self.group.first:
            return
        out, named = self.args.out, list(zip(self.names, self.average))
        out.mkdir(parents=True, exist_ok=True)
        if self.args.base:
            save_adapter({n.removeprefix("transformer."): a for n, a in named}, out, "../../demo/transformer")
        for prefix in () if self.args.base else ("transformer", "text_encoder"):
            tensors = {n.removeprefix(prefix + "."): a.bfloat16().contiguous() for n, a in named if n.startswith(prefix + ".")}
            save_file(tensors, out / f"{prefix}.safetensors")
        (out / "train.json").write_text(json.dumps(record) + "\n")


class Pieces:
    """What a training in pieces (--piece) keeps from one to the next."""

    def __init__(self, args, device):
        self.path, self.state = args.out / "state.pt", {"step": 0, "fraction": 0.0, "seconds": 0.0, "pieces": 0}
        if args.piece and self.path.exists():
            self.state = torch.load(self.path, map_location=device)
        if self.state["fraction"] >= 1:
            raise SystemExit(f"the training in {args.out} is finished")

    def restore(self, trainer: Trainer) -> None:
        """Take over what the piece before has left, if there was one."""
        if "parameters" in self.state:
            with torch.no_grad():
                for mine, saved in ((trainer.parameters, "parameters"), (trainer.average, "average")):
                    for p, s in zip(mine, self.state.pop(saved)):
                        p.copy_(s)
            trainer.muon.buffers = self.state.pop("muon")
            trainer.adam.load_state_dict(self.state.pop("adam"))

    def keep(self, trainer: Trainer, budget: Budget, began: float) -> None:
        state = {"parameters": [p.detach() for p in trainer.parameters], "average": trainer.average, "muon": trainer.muon.buffers,
                 "adam": trainer.adam.state_dict(), "step": budget.step, "fraction": budget.fraction if budget.paused else 1.0,
                 "seconds": self.state["seconds"] + time.time() - began, "pieces": self.state["pieces"] + 1}
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)


def run(trainer: Trainer, feeder: Feeder, streams, shares: dict[str, float], budget: Budget) -> None:
    """All steps of this piece: prints losses now and then, takes new tasks in, and saves every 100 seconds."""
    order, losses, saved = order_of(shares), {}, time.time()
    while budget.advance():
        name = order[budget.step % len(order)]
        loss, own, plain = trainer.step(streams[name], budget)
        losses.setdefault(name, []).append(torch.stack([own, plain]))
        if budget.step % 25 == 0:
            feeder.poll()
        if budget.step % 500 == 0 or budget.step in (5, 20, 100):
            means = {n: torch.stack(v).nanmean(0).tolist() for n, v in sorted(losses.items())}
            texts = "  ".join(f"{n} {o:.4f} {p:.4f}" for n, (o, p) in means.items())
            print(f"step {budget.step} {budget.elapsed:.0f} s at {budget.fraction:.3f} process {trainer.group.rank}: {texts}", flush=True)
            losses = {}
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {loss.item()}")
        if time.time() - saved > 100:
            trainer.save({"steps": budget.step, "finished": False})
            saved = time.time()


def main() -> None:
    args, began = arguments(), time.time()
    group = Group(args.device)
    plan = plan_of(group.rank, group.size, args.base) if not args.compile_only else {args.compile_only.removesuffix(ONCE): (1.0, 0.0)}
    pieces = Pieces(args, group.device)
    before = {k: pieces.state[k] for k in ("step", "fraction", "seconds", "pieces")}
    tasks, streams, shares = make_streams(args, plan, group.device)
    shapes = list({(s.batch, len(s.ids[0]), s.once): n for n, s in reversed(streams.items())}.values())[::-1]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch._dynamo.config.cache_size_limit = 64
    if args.compile_only:
        return Trainer(args, group).compile(streams, [args.compile_only], [])
    helpers = [] if args.no_compile else [subprocess.Popen([sys.executable, *sys.argv, "--compile-only", name]) for name in shapes[1:]]
    feeder = Feeder(args, group, tasks, before["pieces"])
    group.start()
    torch.manual_seed(args.seed)
    trainer = Trainer(args, group)
    pieces.restore(trainer)
    torch.manual_seed((args.seed + 1000 * before["pieces"]) * 100 + group.rank)
    if not args.no_compile:
        trainer.compile(streams, shapes, helpers)
    print(f"process {group.rank}: compiled by {time.time() - began:.0f} s; batches {({n: s.batch for n, s in streams.items()})}", flush=True)
    feeder.fill_all()
    counts = [parameter_count(m) for m in (trainer.net, trainer.encoder)]
    group.say(f"{counts[0]:.2f} + {counts[1]:.2f} M parameters; started by {time.time() - began:.0f} s")
    left = max(1.0, args.seconds - before["seconds"] - (time.time() - began)) if args.seconds else 0.0
    budget = Budget(group, args.steps, group.agree(left), began + args.piece if args.piece else 0.0, before["step"], before["fraction"])
    run(trainer, feeder, streams, shares, budget)
    record = {"base": args.base, "steps": budget.step, "seconds": round(before["seconds"] + time.time() - began, 1),
              "pieces": before["pieces"] + 1, "processes": group.size, "seed": args.seed, "tokens": args.tokens * group.size,
              "tasks": {n: t.length for n, t in tasks.items()}, "finished": not budget.paused}
    trainer.save(record)
    if args.piece and group.first:
        pieces.keep(trainer, budget, began)
    print(record, flush=True)
    feeder.close()
    group.close()


if __name__ == "__main__":
    main()
