"""What a process trains on: cached tasks, the batches that are made of them, and the process that draws and encodes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from gpu_scenes import encode_texts
from latents import parse_stream
from networks import position_ids, velocity
from parallel import Group
from sampling import schedule, start_noise
from tokens import MAX_TOKENS

HERE = Path(__file__).resolve().parent

#: share of a base model's prompts that are empty, which is what guidance leads away from
DROPPED = 0.1

#: ends the names of streams whose references are read once
ONCE = "once"


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
        return start_noise(self.steering[index], self.references, self.count)

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
        self.state, self.steps_done = None, 0

    def draw(self):
        """A batch: indices, wordings, noise levels and noisy tokens; first those on the sampler's own states."""
        quarter, device = self.own // 4, self.device
        if self.state is None and self.own:
            index, wording = self.tasks.pick(self.own)
            level = torch.arange(4, device=device).repeat_interleave(quarter)
            self.state = [index, wording, level, self.tasks.noisy(index, self.levels[level])]
        elif self.own:
            turn = -self.steps_done % 4  # the quarter that has been drawn
            fresh = slice(turn * quarter, (turn + 1) * quarter)
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
        """Let the sampler take a step where its own states are."""
        if self.own:
            level = self.state[2]
            self.state[3] = self.state[3] + (self.levels[level + 1] - self.levels[level])[:, None, None] * v[:self.own]
            self.state[2] = level + 1
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
        b, count, device, references = self.batch, self.tasks.count, self.device, None
        if self.tasks.references:
            references = torch.zeros(b, self.tasks.references, count, 128, device=device, dtype=torch.bfloat16)
        with autocast():
            text = encoder(torch.zeros(b, MAX_TOKENS, dtype=torch.long, device=device), torch.full((b,), 20, device=device))
            v = velocity(net, torch.zeros(b, count, 128, device=device), text, torch.ones(b, device=device), self.ids, references, self.once)
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
