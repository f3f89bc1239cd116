"""One process or several (torchrun): gradient averaging and a clock that all of them share."""

from __future__ import annotations

import os
import time

import torch
import torch.distributed as dist


class Group:
    """The processes that train together."""

    def __init__(self, device: str):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device(f"cuda:{local}" if device == "cuda" else device)
        if device == "cuda":
            torch.cuda.set_device(self.device)
        self.started = False

    def start(self) -> None:
        """Join the other processes (after any forking)."""
        if self.size > 1 and not self.started:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self.started = True

    @property
    def first(self) -> bool:
        return self.rank == 0

    def say(self, *words) -> None:
        if self.first:
            print(*words, flush=True)

    def same_start(self, modules) -> None:
        """Give every process the first one's weights."""
        if self.size > 1:
            for module in modules:
                for tensor in list(module.parameters()) + list(module.buffers()):
                    dist.broadcast(tensor.data, 0)

    def average_gradients(self, parameters) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients])):
            g.copy_(part.view_as(g))

    def agree(self, value: float) -> float:
        """The first process's value, in all processes."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared.item())

    def average(self, tensor):
        if self.size > 1:
            dist.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def close(self) -> None:
        if self.started:
            dist.barrier()
            dist.destroy_process_group()


class Budget:
    """Progress in 0..1 by steps or by seconds, whichever is used up first; read every few steps.

    A training in pieces begins at the step and the fraction where the piece before has stopped; `until` is the time at which this piece
    pauses, 0 for one that goes on to the end.
    """

    def __init__(self, group: Group, steps: int, seconds: float, until: float = 0.0, step: int = 0, fraction: float = 0.0, every: int = 20):
        self.group, self.steps, self.seconds, self.every = group, steps, seconds, every
        self.begin, self.until, self.paused = time.time(), until, False
        self.before = self.fraction = fraction
        self.step = self.first = step

    def advance(self) -> bool:
        """Count a step; false when the budget is used up, or the piece is over."""
        if self.steps and self.step >= self.steps:
            return False
        if self.step % self.every == 0:
            elapsed = (time.time() - self.begin) / self.seconds if self.seconds else 0.0
            by_time = self.before + (1 - self.before) * elapsed
            self.fraction = self.group.agree(max(by_time, self.step / self.steps if self.steps else 0.0))
            over = self.step > self.first and 0 < self.until < time.time()
            self.paused = self.fraction < 1 and self.group.agree(float(over)) > 0
            if self.paused:
                return False
        self.step += 1
        return self.fraction < 1.0

    @property
    def elapsed(self) -> float:
        return time.time() - self.begin
