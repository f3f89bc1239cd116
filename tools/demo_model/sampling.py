"""The schedule of the distilled pipeline and a sampler on tokens."""

from __future__ import annotations

import math

import numpy as np
import torch

from networks import LATENT_GRID, position_ids, velocity

#: noise channels whose means steer the picture: two its shade, two its pose (gpu_scenes.Renderer.scenes)
STEERED = 4


def schedule(steps: int, tokens: int = LATENT_GRID * LATENT_GRID) -> list[float]:
    """diffusers' sigmas for a number of steps, with the final 0."""
    a1, b1, a2, b2 = 8.73809524e-05, 1.89833333, 0.00016927, 0.45666666
    slow, fast = a2 * tokens + b2, a1 * tokens + b1
    mu = (slow - fast) / 190 * steps + slow - 200 * (slow - fast) / 190
    return [math.exp(mu) / (math.exp(mu) + (1 / s - 1)) for s in np.linspace(1, 1 / steps, steps)] + [0.0]


def steered_noise(steering, tokens: int = LATENT_GRID * LATENT_GRID):
    """Noise [B, tokens, 128] whose first channels' means are `steering` [B, 4] / 16.

    Shade and pose follow the noise in this way, so that seeds differ and no step has to guess. The noise is exactly standard normal
    when the steering's spread is `edits.steering_spread` (1 for 256x256).
    """
    noise = torch.randn(len(steering), tokens, 128, device=steering.device)
    head = noise[:, :, :STEERED]
    noise[:, :, :STEERED] = head - head.mean(1, keepdim=True) + steering[:, None] / LATENT_GRID
    return noise


def start_noise(steering, references: int, tokens: int):
    """Noise [B, tokens, 128] for tasks: it steers pictures drawn from text, and says nothing in edits."""
    return torch.randn(len(steering), tokens, 128, device=steering.device) if references else steered_noise(steering, tokens)


@torch.no_grad()
def sample(net, text, noise, grid: tuple[int, int] = (LATENT_GRID, LATENT_GRID), references=None, steps: int = 4,
           guidance: float = 1.0, negative=None, once: bool = False):
    """Euler steps from noise to clean tokens, in float32 between steps; references [B, R, tokens, 128] of the same grid.

    `once` as in `networks.velocity`. With a guidance above 1 away from what `negative` (encoded as `text` is) gives.
    """
    count = 0 if references is None else references.shape[1]
    ids, x = position_ids(noise.device, *grid, count), noise
    sigmas = schedule(steps, noise.shape[1])
    for now, following in zip(sigmas, sigmas[1:]):
        sigma = torch.full((len(x),), now, device=x.device)
        v = velocity(net, x, text, sigma, ids, references, once)
        if guidance > 1:
            without = velocity(net, x, negative, sigma, ids, references, once)
            v = without + guidance * (v - without)
        x = x + (following - now) * v.float()
    return x
