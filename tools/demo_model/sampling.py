"""The schedule of the distilled pipeline and a sampler on tokens."""

from __future__ import annotations

import math

import numpy as np
import torch

from networks import LATENT_GRID, position_ids, velocity

#: noise channels whose means steer the picture: two its shade, four its pose (gpu_scenes.Renderer.scenes)
STEERED = 6


def schedule(steps: int, tokens: int = LATENT_GRID * LATENT_GRID) -> list[float]:
    """diffusers' sigmas for a number of steps, with the final 0."""
    a1, b1, a2, b2 = 8.73809524e-05, 1.89833333, 0.00016927, 0.45666666
    slow, fast = a2 * tokens + b2, a1 * tokens + b1
    mu = (slow - fast) / 190 * steps + slow - 200 * (slow - fast) / 190
    return [math.exp(mu) / (math.exp(mu) + (1 / s - 1)) for s in np.linspace(1, 1 / steps, steps)] + [0.0]


def steered_noise(steering):
    """Noise [B, 256, 128] whose first channels' means carry `steering` [B, 6]; still exactly standard normal.

    Shade and pose follow the noise in this way, so that seeds differ and no step has to guess.
    """
    tokens = LATENT_GRID * LATENT_GRID
    noise = torch.randn(len(steering), tokens, 128, device=steering.device)
    head = noise[:, :, :STEERED]
    noise[:, :, :STEERED] = head - head.mean(1, keepdim=True) + steering[:, None] / math.sqrt(tokens)
    return noise


def sample(net, text, noise, sigmas: list[float], grid: tuple[int, int] = (LATENT_GRID, LATENT_GRID)):
    """Euler steps from noise to clean tokens, in float32 between steps."""
    ids, x = position_ids(noise.device, *grid), noise
    for now, following in zip(sigmas, sigmas[1:]):
        v = velocity(net, x, text, torch.full((len(x),), now, device=x.device), ids)
        x = x + (following - now) * v.float()
    return x
