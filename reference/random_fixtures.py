"""Start noise: torch's CPU generator (what diffusers draws with) and MLX's (what mflux draws with)."""

import mlx.core as mx
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from common import save

PART = "random"
SEEDS = (0, 42, 1234567, 2**32 + 5, 2**63 - 1)


def torch_noise():
    tensors = {}
    for seed in SEEDS:
        for shape in ((1, 128, 2, 3), (1, 128, 1, 1)):
            generator = torch.Generator("cpu").manual_seed(seed)
            name = f"seed_{seed}.{'x'.join(map(str, shape))}"
            tensors[name] = randn_tensor(shape, generator=generator, dtype=torch.float32)
    # 2 * 37 = 74 = 4 * 16 + 10: the last 16 values are drawn anew. 16 and 17 are the edge of that rule.
    for shape in ((2, 37), (17,), (16,)):
        generator = torch.Generator("cpu").manual_seed(42)
        name = f"seed_42.{'x'.join(map(str, shape))}"
        tensors[name] = randn_tensor(shape, generator=generator, dtype=torch.float32)
    # One generator draws a batch at once; a list of generators draws each row from its own seed.
    one = torch.Generator("cpu").manual_seed(42)
    tensors["batch_one_generator_seed_42"] = randn_tensor((2, 128, 2, 3), generator=one)
    each = [torch.Generator("cpu").manual_seed(s) for s in (42, 43)]
    tensors["batch_seeds_42_43"] = randn_tensor((2, 128, 2, 3), generator=each)
    generator = torch.Generator("cpu").manual_seed(42)
    tensors["bf16.seed_42.1x128x2x3"] = randn_tensor((1, 128, 2, 3), generator=generator, dtype=torch.bfloat16)
    # A second draw goes on where the first stopped.
    generator = torch.Generator("cpu").manual_seed(42)
    tensors["first_of_two_draws_seed_42"] = randn_tensor((1, 128, 1, 1), generator=generator)
    tensors["second_of_two_draws_seed_42"] = randn_tensor((1, 128, 1, 1), generator=generator)
    save(PART, "torch", tensors)


def mlx_noise():
    mx.set_default_device(mx.cpu)
    tensors = {}
    for seed in (0, 42, 1234567, 2**32 + 5):
        for shape in ((1, 6, 128), (3, 5, 7)):
            key = mx.random.key(seed)
            values = np.array(mx.random.normal(shape, key=key))
            tensors[f"seed_{seed}.{'x'.join(map(str, shape))}"] = torch.from_numpy(values)
    values = mx.random.normal((1, 6, 128), dtype=mx.bfloat16, key=mx.random.key(42)).astype(mx.float32)
    tensors["bf16.seed_42.1x6x128"] = torch.from_numpy(np.array(values)).bfloat16()
    save(PART, "mlx", tensors)


def make():
    torch_noise()
    mlx_noise()
