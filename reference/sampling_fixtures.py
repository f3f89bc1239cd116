"""Schedules and Euler steps, through the pipeline's own mu and diffusers' scheduler."""

import json

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu, retrieve_timesteps

from common import FIXTURES, Rng, save_pair

PART = "sampling"

# The published scheduler_config.json, in the fields that matter and the one that looks as if it did.
KLEIN = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5,
         "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096,
         "time_shift_type": "exponential"}

# (image tokens, steps): the sizes people use, one token, both sides of the jump at 4300, long runs.
CASES = [(1, 4), (16, 4), (256, 1), (256, 2), (256, 4), (256, 50), (1024, 4), (1024, 8), (1024, 50),
         (4096, 1), (4096, 4), (4096, 8), (4096, 20), (4096, 50), (4300, 4), (4301, 4), (4300, 50),
         (4301, 50), (8100, 4), (16384, 28)]

# Own sigmas are shifted like the default ones; mu still counts the steps that were asked for.
CUSTOM = [(256, 3, [1.0, 0.75, 0.3]), (1024, 4, [0.9, 0.6, 0.4, 0.1]), (256, 50, [1.0, 0.5]), (4301, 1, [0.8])]


def schedule(tokens, steps, custom=None):
    """The scheduler after the pipeline's set-up, and mu."""
    scheduler = FlowMatchEulerDiscreteScheduler(**KLEIN)
    mu = compute_empirical_mu(image_seq_len=tokens, num_steps=steps)
    sigmas = np.linspace(1.0, 1 / steps, steps) if custom is None else custom
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=sigmas, mu=mu)
    scheduler.set_begin_index(0)
    return scheduler, mu


def schedules():
    rows = []
    for tokens, steps, custom in [(*c, None) for c in CASES] + CUSTOM:
        scheduler, mu = schedule(tokens, steps, custom)
        # What the timestep embedding sees in bfloat16: rounded, divided by 1000, multiplied again.
        rounded = scheduler.timesteps.bfloat16() / 1000 * 1000
        row = {"image_tokens": tokens, "steps": steps}
        if custom is not None:
            row["custom_sigmas"] = custom
        row |= {"mu": mu, "sigmas": scheduler.sigmas.tolist(), "timesteps": scheduler.timesteps.tolist(),
                "timesteps_bf16": rounded.tolist()}
        rows.append(row)
    lines = ",\n".join(json.dumps(row) for row in rows)
    path = FIXTURES / PART / "sigmas.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"scheduler": {json.dumps(KLEIN)},\n"cases": [\n{lines}\n]}}\n')


def euler():
    def trajectory(tokens, steps):
        def make(dtype):
            rng = Rng(f"sampling/euler_{tokens}_{steps}")
            scheduler, _ = schedule(tokens, steps)
            sample = rng.normal(1, 6, 8).to(dtype)
            tensors = {"sigmas": scheduler.sigmas, "sample_0": sample}
            for i, t in enumerate(scheduler.timesteps):
                velocity = rng.normal(1, 6, 8).to(dtype)
                sample = scheduler.step(velocity, t, sample, return_dict=False)[0]
                tensors |= {f"velocity_{i}": velocity, f"sample_{i + 1}": sample}
            return None, tensors

        return make

    save_pair(PART, "euler_4", trajectory(4096, 4))
    save_pair(PART, "euler_1", trajectory(256, 1))


def guidance():
    def make(dtype):
        rng = Rng("sampling/guidance")
        positive, negative = rng.normal(2, 6, 8).to(dtype), rng.normal(2, 6, 8).to(dtype)
        tensors = {"positive": positive, "negative": negative}
        for scale in (4.0, 1.5, 2.7):  # 2.7 is no bfloat16
            tensors[f"output_{scale}"] = negative + scale * (positive - negative)
        return None, tensors

    save_pair(PART, "guidance", make)


def make():
    schedules()
    euler()
    guidance()
