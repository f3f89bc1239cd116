"""Low-rank differences to trained weights: trained in place of the weights, saved as diffusers loads a LoRA."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

FILE, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class LowRankLinear(nn.Module):
    """A linear layer without a bias whose weight is W + B A; W stays as it is."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach(), requires_grad=False)
        self.lora_A = nn.Parameter(torch.randn(rank, linear.in_features) / rank**0.5)
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x):
        return F.linear(x, self.weight + self.lora_B @ self.lora_A)


def add_low_rank(net: nn.Module, rank: int) -> None:
    """Give every linear layer a difference of this rank, which alone is trained."""
    net.requires_grad_(False)
    for path, linear in [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]:
        parent, _, name = path.rpartition(".")
        setattr(net.get_submodule(parent), name, LowRankLinear(linear, rank))


def save_adapter(named: dict[str, torch.Tensor], folder: Path, base: str) -> None:
    """Parameters by name ("x_embedder.lora_A", ...) as bfloat16, and what PEFT writes beside them; `base` is the folder of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"transformer.{n}.weight": t.bfloat16().contiguous() for n, t in sorted(named.items())}, folder / FILE, metadata={"format": "pt"})
    rank = min(next(iter(named.values())).shape)
    layers = sorted({n.rpartition(".")[0] for n in named})
    config = {"base_model_name_or_path": base, "bias": "none", "lora_alpha": rank, "peft_type": "LORA", "r": rank, "target_modules": layers}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def merge_adapter(net: nn.Module, file: Path) -> None:
    """Add a saved difference to the weights."""
    tensors = {n: t.float() for n, t in load_file(file).items()}
    with torch.no_grad():
        for name, a in tensors.items():
            if name.endswith(".lora_A.weight"):
                layer = net.get_submodule(name.removeprefix("transformer.").removesuffix(".lora_A.weight"))
                layer.weight += tensors[name.replace("lora_A", "lora_B")] @ a.to(layer.weight.device)
