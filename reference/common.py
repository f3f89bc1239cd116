"""What every fixture script shares: seeded numbers, random weights, and the file format.

A fixture is one safetensors file, tests/fixtures/<part>/<name>.safetensors. Tensors named
`weights.<name inside the module>` are the parameters and buffers of the module under test;
all others are inputs and outputs. A configuration, where one is needed, lies beside it as
<name>.json. `<name>_bf16` is the same case with weights, inputs and arithmetic in bfloat16.
"""

import json
import math
import os
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
DTYPES = ((torch.float32, ""), (torch.bfloat16, "_bf16"))

diffusers.logging.set_verbosity_error()
diffusers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# One thread: the order of a sum, and so its last bit, must not depend on the machine's load.
torch.set_num_threads(1)
torch.set_grad_enabled(False)


class Rng:
    """Random numbers that depend on a case's name alone, not on the cases made before it."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(shape, generator=self.generator) * scale + shift

    def uniform(self, *shape, low=0.0, high=1.0):
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def integers(self, *shape, high):
        return torch.randint(high, shape, generator=self.generator)

    def fill(self, module):
        """Gives every parameter and buffer a value that a wrong program cannot guess.

        Matrices keep the variance of their input, norm weights scatter around 1, biases around
        0: activations stay near 1 through any depth, and no term is small enough to be lost.
        """
        for name, p in module.named_parameters():
            if name.endswith("embed_tokens.weight"):
                value = self.normal(*p.shape)
            elif p.ndim >= 2:
                value = self.normal(*p.shape, scale=1 / math.sqrt(p[0].numel()))
            elif name.endswith("bias"):
                value = self.normal(*p.shape, scale=0.2)
            else:
                value = self.normal(*p.shape, scale=0.25, shift=1.0)
            p.copy_(value)
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(self.normal(*b.shape, scale=0.3))
            elif name.endswith("running_var"):
                b.copy_(self.uniform(*b.shape, low=0.4, high=2.5))
        return module.eval()


def save(part, name, tensors, module=None, config=None, finite=True):
    """Writes one fixture; `module` supplies the `weights.` tensors, `config` the .json beside it.

    Infinities and NaN are refused, unless they are what a case is about and `finite` is False."""
    folder = FIXTURES / part
    folder.mkdir(parents=True, exist_ok=True)
    out = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    if module is not None:
        for k, v in module.state_dict().items():
            out["weights." + k] = v.detach().contiguous().clone()
    for k, v in out.items():
        if finite and v.is_floating_point() and not torch.isfinite(v).all():
            raise ValueError(f"{part}/{name}: {k} is not finite")
    path = folder / f"{name}.safetensors"
    save_file(out, str(path))
    path.chmod(0o644)
    if config is not None:
        write_json(folder / f"{name}.json", config)


def save_pair(part, name, make, config=None):
    """Writes <name> and <name>_bf16; `make(dtype)` returns (module or None, tensors)."""
    for dtype, suffix in DTYPES:
        module, tensors = make(dtype)
        save(part, name + suffix, tensors, module, config if suffix == "" else None)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
