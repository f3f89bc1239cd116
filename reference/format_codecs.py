"""Encodings of published files by code other than ours: each gives what a file stores and what that decodes to."""

import json

import comfy_kitchen
import gguf
import numpy as np
import torch
from comfy_kitchen.tensor import TensorCoreMXFP8Layout, TensorCoreNVFP4Layout


def k_quant(kind, key, array):
    """gguf decodes k-quants and does not write them: blocks of random codes, with scales of a plausible size."""
    columns = array.shape[1]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    halves = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}[kind.name]
    generator = np.random.default_rng(list(key.encode()))
    base = generator.integers(0, 256, (4, columns // block, size), dtype=np.uint8)
    data = base[np.arange(array.shape[0]) % 4].copy()
    data[np.arange(array.shape[0]), 0, 20] = generator.integers(0, 256, array.shape[0])
    scales = generator.uniform(0.5e-4, 2e-3, data.shape[:2]).astype(np.float16)
    for at in halves:
        data[:, :, at:at + 2] = scales[:1].view(np.uint8).reshape(1, -1, 2)
    return data.reshape(array.shape[0], -1)


def one_type(kind):
    """As stable-diffusion.cpp and ComfyUI-GGUF choose: matrices, but for those at the model's two ends."""
    ends = ("img_in.", "txt_in.", "time_in.", "final_layer.", "modulation")

    def choose(key, array):
        if array.ndim == 1:
            return gguf.GGMLQuantizationType.F32
        fits = array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        return kind if fits and not any(e in key for e in ends) else gguf.GGMLQuantizationType.BF16

    return choose


def mixed(key, array):
    """Several k-quants in one file, as the _M files mix them."""
    kinds = gguf.GGMLQuantizationType
    if array.ndim == 1:
        return kinds.F32
    for pieces, kind in ((("img_attn.qkv", "attn_q.", "linear2"), kinds.Q5_K),
                         (("txt_attn.qkv", "attn_v."), kinds.Q3_K),
                         (("mlp.2", "ffn_down", "token_embd", "modulation_img"), kinds.Q6_K),
                         (("txt_mlp.0",), kinds.Q2_K), (("ffn_gate",), kinds.Q8_0)):
        if any(p in key for p in pieces):
            return kind
    return one_type(kinds.Q4_K)(key, array)


def quantized(tensors, names, codec):
    """Replaces X.weight by what `codec` makes of it; returns the file's tensors and what they decode to."""
    stored, decoded = dict(tensors), {k: v.float() for k, v in tensors.items()}
    for name in names:
        companions, decoded[name] = codec(tensors[name].float())
        stored.pop(name)
        stored |= {name.removesuffix("weight") + k: v for k, v in companions.items()}
    return stored, decoded


def fp8(dtype=torch.float8_e4m3fn, spelling=("weight_scale", "input_scale"), shape=()):
    def codec(w):
        scale = w.abs().max() / torch.finfo(dtype).max
        codes = comfy_kitchen.quantize_per_tensor_fp8(w, scale, dtype)
        decoded = comfy_kitchen.dequantize_per_tensor_fp8(codes, scale, torch.float32)
        companions = {"weight": codes, spelling[0]: scale.reshape(shape)}
        if len(spelling) > 1:
            companions[spelling[1]] = torch.tensor(0.25).reshape(shape)
        return companions, decoded
    return codec


def nvfp4(w):
    codes, p = TensorCoreNVFP4Layout.quantize(w)
    decoded = TensorCoreNVFP4Layout.dequantize(codes, p)[:w.shape[0], :w.shape[1]]
    return {"weight": codes, "weight_scale": p.block_scale, "weight_scale_2": p.scale}, decoded


def mxfp8(w):
    codes, p = TensorCoreMXFP8Layout.quantize(w)
    decoded = TensorCoreMXFP8Layout.dequantize(codes, p)[:w.shape[0], :w.shape[1]]
    return {"weight": codes, "weight_scale": p.scale.view(torch.uint8)}, decoded


def int8_rows(w):
    codes, scale = comfy_kitchen.quantize_int8_rowwise(w)
    return {"weight": codes, "weight_scale": scale.reshape(-1, 1)}, comfy_kitchen.dequantize_int8_simple(codes, scale)


def int8_whole(w):
    codes, scale = comfy_kitchen.quantize_int8_tensorwise(w)
    return {"weight": codes, "weight_scale": scale.reshape(())}, comfy_kitchen.dequantize_int8_simple(codes, scale)


def marked(codec, fmt):
    """ComfyUI's newer files say in a tensor of JSON what a layer is."""
    def with_marker(w):
        companions, decoded = codec(w)
        text = json.dumps({"format": fmt}).encode()
        return companions | {"comfy_quant": torch.tensor(list(text), dtype=torch.uint8)}, decoded
    return with_marker


def layers_metadata(names, fmt):
    layers = {n.removesuffix(".weight"): {"format": fmt} for n in names}
    return {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
