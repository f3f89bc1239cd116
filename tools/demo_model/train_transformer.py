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
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from gpu_scenes import encode_texts
from latents import parse_stream
from muon import Muon, split_parameters
from low_rank import add_low_rank, save_adapter
from networks import TextEncoder, make_transformer, parameter_count, position_ids, velocity
from parallel import Budget, Group
from sampling import schedule, steered_noise
from tokens import MAX_TOKENS

HERE = Path(__file__).resolve().parent

#: share of a base model's prompts that are empty, which is what guidance leads away from
DROPPED = 0.1

#: what the processes train, in turn: name of a stream -> (share of its process's steps, share of its process's pictures)
PLANS = (
    {"256x256+0": (1.0, 1.0)},
    {"384x256+0": (0.25, 0.25), "320x192+0": (0.25, 0.25), "256x384+0": (0.25, 0.25), "192x320+0": (0.25, 0.25)},
    {"256x256+1": (0.7, 0.7), "320x192+1": (0.15, 0.15), "192x320+1": (0.15, 0.15)},
    {"256x256+2": (0.6, 0.6), "384x256+1": (0.2, 0.2), "256x384+1": (0.2, 0.2)},
)
#: ends the names of streams whose references are read once
ONCE = "once"
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


class Tasks:
    """Cached tasks of one kind on one canvas."""

    def __init__(self, name: str, capacity: int, device):
        (width, height), self.references = parse_stream(name)
        self.grid, self.device = (height // 16, width // 16), device
        self.count, self.length = self.grid[0] * self.grid[1], 0
        self.tokens = torch.empty(capacity, 1 + self.references, self.count, 128, dtype=torch.bfloat16, device=device)
        self.captions, self.lengths, self.steering = None, None, torch.empty(capacity, 4, device=device)

    def add(self, chunk: dict) -> None:
        """Append a chunk, as far as there is room."""
        size = min(len(chunk["tokens"]), len(self.tokens) - self.length)
        if self.captions is None:
            shape = (len(self.tokens), *chunk["ids"].shape[1:])
            self.captions = torch.zeros(shape, dtype=torch.int16, device=self.device)
            self.lengths = torch.zeros(shape[:2], dtype=torch.int16, device=self.device)
        part = slice(self.length, self.length + size)
        for store, name in ((self.tokens, "tokens"), (self.steering, "steering"), (self.captions, "ids"), (self.lengths, "lengths")):
            store[part] = chunk[name][:size].to(self.device, non_blocking=True)
        self.length += size

    def pick(self, size: int):
        """Indices of tasks and of their wordings."""
        return (torch.randint(self.length, (size,), device=self.device),
                torch.randint(self.captions.shape[1], (size,), device=self.device))

    def noise(self, index):
        """Noise for tasks: it steers pictures drawn from text, and says nothing in edits."""
        if self.references:
            return torch.randn(len(index), self.count, 128, device=self.device)
        return steered_noise(self.steering[index], self.count)

    def noisy(self, index, sigma):
        s = sigma[:, None, None]
        return (1 - s) * self.tokens[index, 0].float() + s * self.noise(index)


class Stream:
    """Training on tasks: batches of them, and those that the sampler is in the middle of. With `once` their references are read once."""

    def __init__(self, tasks: Tasks, once: bool, args, nothing):
        self.tasks, self.once, self.device, self.base, self.nothing = tasks, once, tasks.device, args.base, nothing
        self.batch = max(8, int(args.tokens / (MAX_TOKENS + tasks.count * (1 + tasks.references))) // 8 * 8)
        self.own = int(self.batch * args.own) // 4 * 4
        self.ids = position_ids(self.device, *tasks.grid, tasks.references)
        self.levels = torch.tensor(schedule(4, tasks.count), device=self.device, dtype=torch.float32)
        self.state, self.turn, self.steps_done = None, 0, 0

    def draw(self):
        """A batch: indices, wordings, noise levels and noisy tokens; first those on the sampler's own states."""
        quarter, device = self.own // 4, self.device
        if self.state is None and self.own:
            index, wording = self.tasks.pick(self.own)
            level = torch.arange(4, device=device).repeat_interleave(quarter)
            self.state = [index, wording, level, self.tasks.noisy(index, self.levels[level])]
        elif self.own:
            fresh = slice(self.turn * quarter, (self.turn + 1) * quarter)
            index, wording = self.tasks.pick(quarter)
            for store, value in zip(self.state, (index, wording, torch.zeros_like(index), self.tasks.noise(index))):
                store[fresh] = value
        size = self.batch - self.own
        index, wording = self.tasks.pick(size)
        stretch = torch.exp(torch.rand(size, device=device) * 0.5 + 1.55)
        anywhere = stretch / (stretch + 1 / torch.rand(size, device=device).clamp(1e-3, 1) - 1)
        exact = self.levels[torch.randint(4, (size,), device=device)]
        sigma = anywhere if self.base else torch.where(torch.rand(size, device=device) < 0.5, exact, anywhere)
        batch = [index, wording, sigma, self.tasks.noisy(index, sigma)]
        if self.own:
            mine = [self.state[0], self.state[1], self.levels[self.state[2]], self.state[3]]
            batch = [torch.cat(pair) for pair in zip(mine, batch)]
        return batch

    def advance(self, v) -> None:
        """Let the sampler take a step where its own states are; `turn` is the quarter that has then been drawn."""
        if self.own:
            level = self.state[2]
            self.state[3] = self.state[3] + (self.levels[level + 1] - self.levels[level])[:, None, None] * v[:self.own]
            self.state[2] = level + 1
            self.turn = 3 - self.steps_done % 4
        self.steps_done += 1

    def prompts(self, index, wording):
        """Token ids and lengths; of a base model some are empty."""
        ids, lengths = self.tasks.captions[index, wording].long(), self.tasks.lengths[index, wording].long()
        if self.base:
            gone = torch.rand(len(index), device=self.device) < DROPPED
            ids, lengths = torch.where(gone[:, None], self.nothing[0], ids), torch.where(gone, self.nothing[1], lengths)
        return ids, lengths

    def loss(self, net, encoder, autocast):
        """(mean squared error of the velocity towards the true pictures, that on the sampler's own states, the rest's)."""
        index, wording, sigma, x = self.draw()
        references = self.tasks.tokens[index, 1:] if self.tasks.references else None
        with autocast():
            text = encoder(*self.prompts(index, wording))
            v = velocity(net, x, text, sigma, self.ids, references, self.once).float()
        errors = (v - (x - self.tasks.tokens[index, 0].float()) / sigma[:, None, None]).square().mean((1, 2))
        self.advance(v.detach())
        kept = errors.detach()
        return errors.mean(), kept[:self.own].mean(), kept[self.own:].mean()

    def warm_up(self, net, encoder, autocast) -> None:
        """Compile forward and backward passes on made-up data."""
        b, device = self.batch, self.device
        references = torch.zeros(b, self.tasks.references, self.tasks.count, 128, device=device, dtype=torch.bfloat16) if self.tasks.references else None
        with autocast():
            text = encoder(torch.zeros(b, MAX_TOKENS, dtype=torch.long, device=device), torch.full((b,), 20, device=device))
            v = velocity(net, torch.zeros(b, self.tasks.count, 128, device=device), text, torch.ones(b, device=device), self.ids, references, self.once)
        v.float().square().mean().backward()


class Feeder:
    """The process that encodes this process's tasks, and the streams that they go into."""

    def __init__(self, args, group: Group, tasks: dict[str, Tasks], pieces: int):
        self.folder = Path(tempfile.mkdtemp(prefix=f"latents_{group.rank}_", dir="/dev/shm" if Path("/dev/shm").exists() else None))
        self.tasks = tasks
        command = [sys.executable, str(HERE / "latents.py"), str(self.folder), "--vae", str(args.vae), "--tokenizer", str(args.tokenizer),
                   "--workers", str(args.workers), "--chunk", str(args.chunk),
                   "--device", str(group.device), "--seed", str((args.seed + 1000 * pieces) * 50 + group.rank), "--streams"]
        self.process = subprocess.Popen(command + [f"{n}:{len(t.tokens)}" for n, t in tasks.items()] + ["--open"] * args.base)

    def poll(self) -> None:
        for file in sorted(self.folder.glob("*.pt"), key=lambda f: f.stat().st_mtime):
            self.tasks[file.stem.rsplit("_", 1)[0]].add(torch.load(file))
            file.unlink()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill_all(self) -> None:
        """Wait until there are tasks of every kind."""
        while any(t.length == 0 for t in self.tasks.values()):
            if self.process.poll() not in (None, 0):
                raise SystemExit("the encoding process failed")
            self.poll()
            time.sleep(0.1)


def rate_factor(step: int, fraction: float, decay_from: float) -> float:
    return min(1.0, step / 150) * min(1.0, (1 - fraction) / (1 - decay_from) + 0.003)


def load_weights(net, encoder, folder: Path) -> None:
    pairs = ((net, ("transformer.safetensors", "transformer/diffusion_pytorch_model.safetensors")),
             (encoder, ("text_encoder.safetensors", "text_encoder/model.safetensors")))
    for module, names in pairs:
        path = next(folder / n for n in names if (folder / n).exists())
        module.load_state_dict({k: v.float() for k, v in load_file(path).items()})


class Pieces:
    """What a training in pieces (--piece) keeps from one to the next."""

    def __init__(self, args, device):
        self.path, self.state = args.out / "state.pt", {"step": 0, "fraction": 0.0, "seconds": 0.0, "pieces": 0}
        if args.piece and self.path.exists():
            self.state = torch.load(self.path, map_location=device)
        if self.state["fraction"] >= 1:
            raise SystemExit(f"the training in {args.out} is finished")

    def restore(self, parameters, average, muon: Muon, adam) -> None:
        """Take over what the piece before has left, if there was one."""
        if "parameters" in self.state:
            with torch.no_grad():
                for mine, saved in ((parameters, "parameters"), (average, "average")):
                    for p, s in zip(mine, self.state.pop(saved)):
                        p.copy_(s)
            muon.buffers = self.state.pop("muon")
            adam.load_state_dict(self.state.pop("adam"))

    def keep(self, parameters, average, muon: Muon, adam, budget: Budget, began: float) -> None:
        state = {"parameters": [p.detach() for p in parameters], "average": average, "muon": muon.buffers, "adam": adam.state_dict(),
                 "step": budget.step, "fraction": budget.fraction if budget.paused else 1.0, "seconds": self.state["seconds"] + time.time() - began,
                 "pieces": self.state["pieces"] + 1}
        torch.save(state, self.path.with_suffix(".part"))
        self.path.with_suffix(".part").rename(self.path)


def save(args, group: Group, names, average, record: dict) -> None:
    if not group.first:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.base:
        save_adapter({n.removeprefix("transformer."): a for n, a in zip(names, average)}, args.out, "../../demo/transformer")
    for prefix in () if args.base else ("transformer", "text_encoder"):
        tensors = {n.removeprefix(prefix + "."): a.bfloat16().contiguous() for n, a in zip(names, average) if n.startswith(prefix + ".")}
        save_file(tensors, args.out / f"{prefix}.safetensors")
    (args.out / "train.json").write_text(json.dumps(record) + "\n")


def make_streams(args, plan: dict[str, tuple[float, float]], device) -> tuple[dict[str, Tasks], dict[str, Stream], dict[str, float]]:
    """The tasks that a process caches, the streams that it trains on them, and the streams' shares of its steps."""
    nothing = encode_texts(Tokenizer.from_file(str(args.tokenizer)), [""], device)
    tasks, streams, shares = {}, {}, {}
    for name, (steps, pictures) in plan.items():
        wanted = args.pictures * pictures / (1 + parse_stream(name)[1])
        tasks[name] = Tasks(name, max(1, -(-int(wanted) // args.chunk)) * args.chunk, device)
        ways = (False, True) if tasks[name].references and not args.base else (False,)
        for once in ways:
            key = name + ONCE * once
            streams[key], shares[key] = Stream(tasks[name], once, args, nothing), steps / len(ways)
    return tasks, streams, shares


def main() -> None:
    args, began = arguments(), time.time()
    group = Group(args.device)
    plan = plan_of(group.rank, group.size, args.base) if not args.compile_only else {args.compile_only.removesuffix(ONCE): (1.0, 0.0)}
    pieces = Pieces(args, group.device)
    tasks, streams, shares = make_streams(args, plan, group.device)
    shapes = list({(s.batch, len(s.ids[0]), s.once): n for n, s in reversed(streams.items())}.values())[::-1]
    if args.compile_only:
        shapes = [args.compile_only]
    helpers = [] if args.no_compile or args.compile_only else [
        subprocess.Popen([sys.executable, *sys.argv, "--compile-only", name]) for name in shapes[1:]]
    feeder = None if args.compile_only else Feeder(args, group, tasks, pieces.state["pieces"])
    if not args.compile_only:
        group.start()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch._dynamo.config.cache_size_limit = 64
    net, encoder = make_transformer(), TextEncoder()
    if args.resume:
        load_weights(net, encoder, args.resume)
    if args.base:
        add_low_rank(net, args.rank)
        encoder.requires_grad_(False)
    net.to(group.device), encoder.to(group.device)
    if group.started:
        group.same_start([net, encoder])
    torch.manual_seed((args.seed + 1000 * pieces.state["pieces"]) * 100 + group.rank)

    def autocast():
        return torch.autocast(group.device.type, torch.bfloat16, enabled=group.device.type == "cuda")

    named = [(prefix + n, p) for prefix, module in (("transformer.", net), ("text_encoder.", encoder))
             for n, p in module.named_parameters() if p.requires_grad]
    names, parameters = [n for n, _ in named], [p for _, p in named]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    matrices, rest = ([], parameters) if args.base else split_parameters(named)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, args.rate / 10, betas=(0.9, 0.98), weight_decay=0.0, fused=group.device.type == "cuda")
    average = [p.detach().clone() for p in parameters]
    pieces.restore(parameters, average, muon, adam)
    fast_net, fast_encoder = net, encoder
    if not args.no_compile:
        fast_net, fast_encoder = torch.compile(net, dynamic=False), torch.compile(encoder, dynamic=False)
        for number, name in enumerate(shapes):
            if number and helpers[number - 1].wait():
                group.say("a compiling process failed")
            streams[name].warm_up(fast_net, fast_encoder, autocast)
    if args.compile_only:
        return
    print(f"process {group.rank}: compiled by {time.time() - began:.0f} s; batches {({n: s.batch for n, s in streams.items()})}", flush=True)
    feeder.fill_all()
    group.say(f"{parameter_count(net):.2f} + {parameter_count(encoder):.2f} M parameters; started by {time.time() - began:.0f} s")
    left = max(1.0, args.seconds - pieces.state["seconds"] - (time.time() - began)) if args.seconds else 0.0
    budget = Budget(group, args.steps, group.agree(left), began + args.piece if args.piece else 0.0, pieces.state["step"], pieces.state["fraction"])
    order, losses, saved = order_of(shares), {}, time.time()
    while budget.advance():
        name = order[budget.step % len(order)]
        loss, own, plain = streams[name].loss(fast_net, fast_encoder, autocast)
        torch._foreach_zero_([p.grad for p in parameters])
        loss.backward()
        group.average_gradients(parameters)
        factor = rate_factor(budget.step, budget.fraction, args.decay_from)
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        adam.param_groups[0]["lr"] = args.rate / 10 * factor
        adam.step()
        muon.step(args.rate * factor)
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(0.998, budget.step / (budget.step + 20)))
        losses.setdefault(name, []).append(torch.stack([own, plain]))
        if budget.step % 25 == 0:
            feeder.poll()
        if budget.step % 500 == 0 or budget.step in (5, 20, 100):
            texts = "  ".join(f"{n} {o:.4f} {p:.4f}" for n, (o, p) in ((n, torch.stack(v).nanmean(0).tolist()) for n, v in sorted(losses.items())))
            print(f"step {budget.step} {budget.elapsed:.0f} s x{factor:.3f} process {group.rank}: {texts}", flush=True)
            losses = {}
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {loss.item()}")
        if time.time() - saved > 100:
            save(args, group, names, average, {"steps": budget.step, "finished": False})
            saved = time.time()
    record = {"base": args.base, "steps": budget.step, "seconds": round(pieces.state["seconds"] + time.time() - began, 1),
              "pieces": pieces.state["pieces"] + 1, "processes": group.size, "seed": args.seed, "tokens": args.tokens * group.size,
              "tasks": {n: t.length for n, t in tasks.items()}, "finished": not budget.paused}
    save(args, group, names, average, record)
    if args.piece and group.first:
        pieces.keep(parameters, average, muon, adam, budget, began)
    print(record, flush=True)
    feeder.close()
    group.close()


if __name__ == "__main__":
    main()
