"""Packed matrices and what their own libraries decode them to, and a GGUF file of every type.

A case is a set of tensors `<case>.codes` U8 [rows, bytes of a row], `<case>.scales` and `<case>.biases`
in the bytes of their type, `<case>.output` F32 [rows, columns].
"""

import comfy_kitchen
import gguf
import mlx.core as mx
import numpy as np
import torch
from comfy_kitchen.backends.eager import quantization as comfy
from gguf import GGMLQuantizationType as Type

from common import FIXTURES, Rng, save

PART = "quant"
BLOCKS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
# Where the halves stand in a block, which may hold no infinity.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
PLAIN = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
         "F64": np.float64}


def to_bytes(array):
    """An MLX or numpy array as torch's bytes, rows kept."""
    if isinstance(array, mx.array):
        array = np.array(array.view(mx.uint8))
    return torch.from_numpy(np.ascontiguousarray(array).view(np.uint8).copy())


def random_matrix(name, rows, columns):
    return Rng("quant/" + name).normal(rows, columns, scale=0.05, shift=0.01)


def affine():
    tensors = {}
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            w = mx.array(random_matrix(f"affine_{bits}_{group}", 2, 256).numpy())
            for dtype, name in ((mx.float32, "float32"), (mx.float16, "float16"), (mx.bfloat16, "bfloat16")):
                codes, scales, biases = mx.quantize(w.astype(dtype), group_size=group, bits=bits)
                # MLX rounds every operation to the type of the scales: float32 is the value itself.
                output = mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group,
                                       bits=bits)
                case = f"{bits}_{group}_{name}."
                tensors |= {case + "codes": to_bytes(codes), case + "scales": to_bytes(scales),
                            case + "biases": to_bytes(biases), case + "output": torch.from_numpy(np.array(output))}
                if group != 64:
                    break  # every type of scale once for every width
    save(PART, "affine", tensors)


def bytes_with_a_scale():
    """float8 and int8, all 256 codes, a number of columns that is no multiple of eight."""
    rng = Rng("quant/bytes")
    codes = torch.cat([torch.arange(256), rng.integers(256 * 2 + 3 * 5, high=256)]).to(torch.uint8)[:3 * 261].reshape(3, 261)
    scales = rng.uniform(3, 1, low=0.001, high=0.1)
    columns = rng.uniform(261, low=0.5, high=2.0)
    tensors = {"codes": codes, "scales": scales, "column_scales": columns}
    for name, dtype in (("fp8_e4m3", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)):
        values = codes.view(dtype).float()
        tensors |= {f"{name}.unscaled": values, f"{name}.one_scale": values * scales[0, 0],
                    f"{name}.row_scales": values * scales, f"{name}.columns": values * scales * columns}
    int8 = codes.view(torch.int8)
    row_scaled = comfy_kitchen.dequantize_int8_simple(int8, scales)
    tensors |= {"int8.unscaled": int8.float(),
                "int8.one_scale": comfy_kitchen.dequantize_int8_simple(int8, scales[0, 0]),
                "int8.row_scales": row_scaled, "int8.columns": row_scaled * columns}
    for name in [n for n in tensors if n.endswith(".columns")]:
        tensors[name.replace("columns", "bfloat16")] = tensors[name].bfloat16()
    save(PART, "bytes", tensors, finite=False)


def micro_scaled():
    tensors = {}
    for mode in ("mxfp8", "mxfp4", "nvfp4"):
        w = mx.array(random_matrix(mode, 3, 160).numpy())
        codes, scales = mx.quantize(w, mode=mode)
        output = mx.dequantize(codes, scales, mode=mode, dtype=mx.float32)
        tensors |= {f"{mode}.codes": to_bytes(codes), f"{mode}.scales": to_bytes(scales),
                    f"{mode}.output": torch.from_numpy(np.array(output))}
    # Every power of two, the smallest a subnormal float and 255 no number.
    codes = Rng("quant/powers").integers(256 // 5, 160, high=256).to(torch.uint8)
    powers = torch.arange(255, -1, -1).to(torch.uint8)[:255].reshape(51, 5)
    powers[50, 4] = 0
    scales = powers.view(torch.float8_e8m0fnu).float().repeat_interleave(32, 1)
    tensors |= {"powers.codes": codes, "powers.scales": powers,
                "powers.output": codes.view(torch.float8_e4m3fn).float() * scales}
    save(PART, "micro_scaled", tensors, finite=False)


def nvfp4_tiled():
    """comfy-kitchen's NVFP4: scales in tiles, 130 rows by 6 groups, nibbles in both orders."""
    w = random_matrix("nvfp4_tiled", 130, 96)
    scale = comfy_kitchen.float_utils.F4_E2M1_MAX * comfy_kitchen.float_utils.F8_E4M3_MAX
    scale = (w.abs().max() / scale).float()
    codes, tiled = comfy_kitchen.quantize_nvfp4(w, scale)
    tensors = {"codes": codes, "tiled_scales": tiled.view(torch.uint8), "global_scale": scale.reshape(1),
               "scales": comfy_kitchen.from_blocked(tiled.view(torch.uint8), 130, 6)}
    for name, hi_first in (("high_first", True), ("low_first", False)):
        tensors[name] = comfy.dequantize_nvfp4(codes, scale, tiled, torch.float32, hi_first=hi_first)
    assert (tensors["high_first"] - w).abs().max() < 0.05
    tensors["low_first"] = tensors["low_first"][:2]
    save(PART, "nvfp4_tiled", tensors)


def random_blocks(name, rows, blocks):
    """Blocks of random bits, whose scales are finite halves of every size."""
    rng = Rng("quant/blocks/" + name)
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    data = rng.integers(rows * blocks, size, high=256).to(torch.uint8).numpy()
    for at in HALVES[name]:
        half = (rng.normal(rows * blocks).exp2() * rng.normal(rows * blocks)).half().numpy()
        half[0] = np.float16(3e-7)  # a subnormal
        data[:, at:at + 2] = half.view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, blocks * size)


def ggml_blocks():
    tensors = {}
    for name in BLOCKS:
        blocks = 1 if name.endswith("K") else 3
        data = random_blocks(name, 3, blocks)
        output = torch.from_numpy(gguf.quants.dequantize(data, Type[name]))
        tensors |= {f"{name}.codes": to_bytes(data), f"{name}.output": output, f"{name}.bfloat16": output.bfloat16()}
    save(PART, "ggml", tensors)
    return {name: tensors[f"{name}.codes"].numpy() for name in BLOCKS}


def gguf_file(blocks):
    """One tensor of every type that ggml has; metadata of every type."""
    writer = gguf.GGUFWriter(str(FIXTURES / PART / "types.gguf"), "flux2")
    writer.add_uint8("value.u8", 200)
    writer.add_int8("value.i8", -100)
    writer.add_uint16("value.u16", 60000)
    writer.add_int16("value.i16", -30000)
    writer.add_uint32("value.u32", 4000000000)
    writer.add_int32("value.i32", -2000000000)
    writer.add_uint64("value.u64", 2**63 + 1)
    writer.add_int64("value.i64", -(2**62))
    writer.add_float32("value.f32", 0.5)
    writer.add_float64("value.f64", 1e-300)
    writer.add_bool("value.bool", True)
    writer.add_string("value.string", "FLUX.2 \u00fc")
    writer.add_array("value.strings", ["a", "bc", ""])
    writer.add_array("value.ints", [1, -2, 3])
    for name, dtype in PLAIN.items():
        writer.add_tensor("plain." + name, np.arange(-6, 6).reshape(3, 4).astype(dtype), raw_dtype=Type[name])
    bf16 = torch.arange(-6, 6).reshape(3, 4).bfloat16().view(torch.uint8).numpy()
    writer.add_tensor("plain.BF16", bf16, raw_dtype=Type.BF16)
    writer.add_tensor("plain.vector", np.arange(5, dtype=np.float32))
    for name, data in blocks.items():
        writer.add_tensor("blocks." + name, data, raw_dtype=Type[name])
    known = set(PLAIN) | set(BLOCKS) | {"BF16"}
    for kind in Type:
        if kind.name not in known:
            size = gguf.GGML_QUANT_SIZES[kind][1]
            writer.add_tensor("other." + kind.name, np.full((2, size), kind.value, np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make():
    mx.set_default_device(mx.cpu)
    affine()
    bytes_with_a_scale()
    micro_scaled()
    nvfp4_tiled()
    gguf_file(ggml_blocks())


if __name__ == "__main__":
    make()
