"""LoRAs that PEFT applies while the model runs, on dense and on packed weights: the lora_* files of tests/fixtures/edit."""

import mlx.core as mx
import numpy as np
import torch
from safetensors.torch import save_file

from common import FIXTURES, Rng
from edit_trace import PART, Trace, pipeline, save_case
from lora_fixtures import FOLDER as LORAS
from lora_fixtures import half, linears

FIRST, SECOND = LORAS / "diffusers.safetensors", FIXTURES / PART / "second_lora.safetensors"
RANK = 2
MAX_FP8 = 448.0


def write_second():
    """Another rank and fewer layers than the LoRA of lora_fixtures.py."""
    tensors = {}
    for key, weight in linears(pipeline("tiny-distilled").transformer).items():
        if ".attn." in key or key == "proj_out":
            rng = Rng(f"{PART}/second_lora/{key}")
            rows, columns = weight.shape
            tensors[f"transformer.{key}.lora_A.weight"] = half(rng.normal(RANK, columns, scale=columns ** -0.5)).half()
            tensors[f"transformer.{key}.lora_B.weight"] = half(rng.normal(rows, RANK, scale=0.4)).half()
    save_file(tensors, str(SECOND))
    SECOND.chmod(0o644)


def affine(weight):
    """8 bits in groups of 64 that share a scale and a bias in bfloat16; None where rows do not fill groups."""
    if weight.shape[1] % 64:
        return None
    array = mx.array(weight.numpy()).astype(mx.bfloat16)
    codes, scales, biases = mx.quantize(array, group_size=64, bits=8)
    wide = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=64, bits=8)
    return torch.from_numpy(np.array(wide))


def fp8(weight):
    """E4M3 with a float32 scale for each row."""
    narrow = weight.bfloat16().float()
    scale = narrow.abs().amax(1, keepdim=True) / MAX_FP8
    return (narrow / scale).to(torch.float8_e4m3fn).float() * scale


def run(name, scales, packing=None, packed="", seed=21, steps=2):
    """`scales` by file; the packed weights reach diffusers as what they decode to."""
    trace = Trace(pipeline("tiny-distilled"))
    count = 0
    for weight in linears(trace.pipe.transformer).values():
        decoded = packing(weight) if packing else None
        if decoded is not None:
            weight.copy_(decoded)
            count += 1
    for path in scales:
        trace.pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=path.stem,
                                     low_cpu_mem_usage=False)
    if scales:
        trace.pipe.set_adapters([p.stem for p in scales], [float(s) for s in scales.values()])
    trace.run(seed, width=32, height=32, num_inference_steps=steps, guidance_scale=1.0)
    files = [{"file": str(p.relative_to(FIXTURES)), "scale": s} for p, s in scales.items()]
    config = {"model": "tiny-distilled", "seed": seed, "steps": steps, "width": 32, "height": 32, "loras": files}
    save_case(name, trace, config | ({"quantize_transformer": packed, "packed": count} if packed else {}))
    return trace.tensors["latents_1"]


def make():
    write_second()
    results = [run("lora_whole", {FIRST: 1.0}), run("lora_half", {FIRST: 0.5}),
               run("lora_two", {FIRST: 0.8, SECOND: -0.6}),
               run("lora_packed_8", {FIRST: 0.7, SECOND: 0.5}, affine, "8"),
               run("lora_packed_fp8", {FIRST: 0.7, SECOND: 0.5}, fp8, "fp8")]
    for i, one in enumerate(results):
        if any((one - other).abs().max() < 0.02 for other in results[:i]):
            raise ValueError("two settings give nearly the same latents")
