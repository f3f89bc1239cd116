"""Muon for matrices made of square blocks, AdamW for everything else.

Every matrix of the transformer's blocks is a row or a column of d x d blocks (q, k, v, gates, ...); orthogonalizing block by
block lets all of them go through one batched Newton-Schulz iteration, which costs next to nothing.
"""

from __future__ import annotations

import torch


@torch.no_grad()
def orthogonalize(blocks: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Replace every matrix of a batch [N, d, d] by about the nearest orthogonal one (quintic Newton-Schulz in bfloat16)."""
    x = blocks.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.float()


def to_blocks(matrix: torch.Tensor) -> torch.Tensor:
    rows, columns = matrix.shape
    d = min(rows, columns)
    return matrix.view(rows // d, d, columns // d, d).permute(0, 2, 1, 3).reshape(-1, d, d)


def from_blocks(blocks: torch.Tensor, shape) -> torch.Tensor:
    rows, columns = shape
    d = min(rows, columns)
    return blocks.view(rows // d, columns // d, d, d).permute(0, 2, 1, 3).reshape(rows, columns)


class Muon:
    """Momentum, orthogonalized per block."""

    def __init__(self, parameters, momentum: float = 0.95):
        self.groups: dict[int, list] = {}
        for p in parameters:
            self.groups.setdefault(min(p.shape), []).append(p)
        self.momentum = momentum
        self.buffers = {d: [torch.zeros_like(p) for p in ps] for d, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for d, parameters in self.groups.items():
            gradients = [p.grad for p in parameters]
            torch._foreach_lerp_(self.buffers[d], gradients, 1 - self.momentum)
            nesterov = torch._foreach_lerp(gradients, self.buffers[d], self.momentum)
            blocks = [to_blocks(g) for g in nesterov]
            done = orthogonalize(torch.cat(blocks)).split([len(b) for b in blocks])
            updates = [from_blocks(b, p.shape) for b, p in zip(done, parameters)]
            torch._foreach_add_(parameters, updates, alpha=-rate)


def split_parameters(named):
    """(matrices for Muon, the rest for AdamW): block matrices whose sides divide one another go to Muon."""
    matrices, rest = [], []
    for name, p in named:
        in_block = ("transformer_blocks." in name or ".layers." in name) and p.ndim == 2
        fits = p.ndim == 2 and max(p.shape) % min(p.shape) == 0
        (matrices if in_block and fits else rest).append(p)
    return matrices, rest
