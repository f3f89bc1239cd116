#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, tests/fuzz/corpus/<target>/seed_*, from tests/fixtures and by hand.

Usage: make_corpus.py
Other files there are inputs that once went wrong; they stay.
"""

import gzip
import json
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"


def put(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    (folder / f"seed_{name}").write_bytes(data)


def safetensors(tensors, metadata=None):
    """A file of (name, dtype, bytes of an element, shape)."""
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, each, shape in tensors:
        size = each
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(i % 251 for i in range(at))


def tensors_in(path):
    """Names and shapes that a safetensors file holds."""
    data = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return header


def gguf_text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(values, tensors, alignment=32):
    """A file of (key, type, bytes) and (name, sides, type, bytes)."""
    head, data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)), b""
    for key, kind, raw in values:
        head += gguf_text(key) + struct.pack("<I", kind) + raw
    for name, sides, kind, size in tensors:
        head += gguf_text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, len(data))
        data += bytes(i % 120 for i in range(size)) + bytes(-size % alignment)
    return head + bytes(-len(head) % alignment) + data


def gguf_seeds():
    put("gguf", "types", (FIXTURES / "quant/types.gguf").read_bytes())
    numbers = [(f"v{kind}", kind, struct.pack("<" + code, 1))
               for kind, code in enumerate("BbHhIif?") if code] + [
                   ("u64", 10, struct.pack("<Q", 7)), ("i64", 11, struct.pack("<q", -7)),
                   ("f64", 12, struct.pack("<d", 0.5))]
    lists = [("general.architecture", 8, gguf_text("qwen3")),
             ("texts", 9, struct.pack("<IQ", 8, 2) + gguf_text("a") + gguf_text("bc")),
             ("numbers", 9, struct.pack("<IQ4H", 2, 4, 1, 2, 3, 4)),
             ("lists", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ3B", 0, 3, 1, 2, 3))]
    put("gguf", "values", gguf(numbers + lists + [("general.alignment", 4, struct.pack("<I", 8))],
                               [("a", [3], 0, 12), ("empty", [0], 0, 0)], 8))
    block = "blk.0."
    put("gguf", "qwen3", gguf(lists[:1], [
        ("token_embd.weight", [32, 4], 8, 136), ("output_norm.weight", [32], 0, 128),
        (block + "attn_q.weight", [32, 8], 2, 144), (block + "attn_k.weight", [32, 4], 3, 80),
        (block + "attn_q_norm.weight", [4], 30, 8), (block + "ffn_gate.weight", [32, 2], 6, 44)]))
    put("gguf", "wide_blocks", gguf([], [("single_stream_modulation.lin.weight", [256, 2], 12, 288),
                                         ("a.weight", [256, 1], 14, 210)]))


def packed_seeds():
    lists = {
        "fp8": "a.weight F8_E4M3 4 8\na.weight_scale F32\na.input_scale F32\n"
               "b.weight F8_E5M2 4 8\nb.scale_weight F16 4 1\nscaled_fp8 F8_E4M3 2\n",
        "fp8_asked": 'a.weight F8_E4M3 4 8\na.weight_scale F32 1\na.comfy_quant U8 ={"format": "float8_e4m3fn"}\n',
        "int8": 'a.weight I8 3 5\na.weight_scale F32 3 1\na.comfy_quant U8 ={"format": "int8_tensorwise", '
                '"convrot": false}\nb.weight I8 2 2\nb.weight_scale BF16\n',
        "nvfp4": "a.weight U8 2 16\na.weight_scale F8_E4M3 128 4\na.weight_scale_2 F32\n"
                 'a.pre_quant_scale BF16 32\na.comfy_quant U8 ={"format": "nvfp4"}\n',
        "mxfp8": "a.weight F8_E4M3 2 64\na.weight_scale U8 128 4\nb.weight F8_E4M3 2 32\nb.weight_scale F8_E8M0 512\n",
        "affine": "".join(f"{bits}.weight U32 2 {bits * 4}\n{bits}.scales F16 2 2\n{bits}.biases F16 2 2\n"
                          for bits in (2, 3, 4, 5, 6, 8)),
        "affine_groups": "a.weight U32 2 16\na.scales BF16 2 4\na.biases BF16 2 4\n"
                         "b.weight U32 2 16\nb.scales F32 2 1\nb.biases F32 2 1\n",
        "mlx_floats": "a.weight U32 2 16\na.scales U8 2 2\nb.weight U32 2 8\nb.scales U8 2 2\n"
                      "c.weight U32 2 4\nc.scales U8 2 2\n",
        "dense": "a.weight BF16 2 3\na.bias F32 2\nscalar F64\nempty I64 0 7\nflag BOOL 1\n",
        "bfl": "single_stream_modulation.lin.weight F8_E4M3 6 4\nsingle_stream_modulation.lin.weight_scale F32\n"
               "double_blocks.0.img_attn.qkv.weight U32 6 8\ndouble_blocks.0.img_attn.qkv.scales F16 6 1\n"
               "double_blocks.0.img_attn.qkv.biases F16 6 1\n",
    }
    for name, lines in lists.items():
        put("packed", name, lines + "\n" + "8@\x01\x7f")


def names_seeds():
    sources = {"bfl": "bfl.safetensors.gz", "ae": "ae.safetensors.gz", "qwen3": "qwen3.safetensors.gz",
               "small_decoder": "full_encoder_small_decoder.safetensors.gz", "lora": "refused_lora.safetensors.gz",
               "dev": "refused_flux2_dev.safetensors.gz"}
    sources |= {f"mflux_{part}": f"mflux_bf16/{part}" for part in ("transformer", "vae")}
    for name, source in sources.items():
        path = FIXTURES / "formats" / source
        files = sorted(path.glob("*.safetensors*")) if path.is_dir() else [path]
        lines = [" ".join(map(str, [tensor, *info["shape"]]))
                 for file in files if "index" not in file.name for tensor, info in sorted(tensors_in(file).items())]
        put("names", name, "\n".join(lines) + "\n")


def tokenizer_seeds():
    small = (FIXTURES / "tokenizer/small/tokenizer.json").read_text()
    put("tokenizer", "small", json.dumps(json.loads(small), ensure_ascii=False, separators=(",", ":")))
    letters = "!'\u0120abcdefsx|<>\u010a\u010912"
    vocabulary = {c: i for i, c in enumerate(letters)}
    merges = [["a", "b"], ["a", "a"], ["aa", "aa"], ["\u0120", "a"]]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    regex = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    document = {
        "version": "1.0",
        "added_tokens": [{"id": len(vocabulary), "content": "<|x|>", "normalized": False, "special": True}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "ignore_merges": False, "vocab": vocabulary, "merges": merges},
    }
    put("tokenizer", "split", json.dumps(document, ensure_ascii=False))
    document["model"]["merges"] = [" ".join(pair) for pair in merges]
    document["model"]["ignore_merges"] = True
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[ab]+|\\d{1,3}|(a|b)*?x"
    put("tokenizer", "spaced_merges", json.dumps(document))


def text_seeds():
    for i, text in enumerate(["a cat's hat, 12 of 'em", "<a><b><a>\u00e9t\u00e9<pad>", "   \n\n\t x   ",
                              "e\u0301\u0323" + "\u0301" * 40, "\u732b\U0001f408 \u200d", "a" * 300]):
        put("text", str(i), text)
    put("text", "bytes", b"\xff\xfe a\xc3(\xed\xa0\x80\xf4\x90\x80\x80")


def index_seeds():
    def index(pairs):
        return json.dumps({"metadata": {"total_size": 3}, "weight_map": pairs})

    good = {"a": "1.safetensors", "b": "1.safetensors"}
    put("index", "one", index(good))
    put("index", "two", index(good | {"c": "2.safetensors"}))
    for name in ("out", "loop", "gone", "up", "inner", "inner.safetensors/3", "../outside", "none"):
        put("index", "reach_" + name.replace("/", "_"), index(good | {"d": name + ".safetensors"}))


def json_seeds():
    for model, part in (("tiny-base", "transformer"), ("tiny-base", "vae"), ("tiny-base", "text_encoder")):
        put("json", part, (FIXTURES / "models" / model / part / "config.json").read_text())
    put("json", "types", '\ufeff{"a": [1, -2, 2.5e3, true, null, "x\\u00e9\\ud83d\\ude00"], "a": {"a": {"eps": [1, 2, 3, 4]}}}')
    put("json", "numbers", '{"a": 18446744073709551615, "eps": 1e-300, "num_layers": -9223372036854775808}')
    put("json", "deep", "[" * 255 + "]" * 255)


def listing_seeds():
    put("listing", "files", json.dumps({"sha": "0123456789abcdef" * 2 + "01234567", "siblings": [
        {"rfilename": "vae/config.json", "size": 12, "blobId": "a" * 40},
        {"rfilename": "model.safetensors", "size": 7, "lfs": {"sha256": "b" * 64, "size": 99}, "blobId": "c" * 40}]}))
    put("listing", "none", json.dumps({"sha": "0" * 40, "siblings": []}))


def picture_seeds():
    for name in ("rgb.png", "palette_alpha.png", "one_bit.png", "grey_alpha.png", "behind_pixels.png", "cmyk.jpg",
                 "progressive.jpg", "big_endian.jpg", "cut_exif.jpg", "orientation_6.webp", "rgba.webp"):
        put("picture", name, (FIXTURES / "pictures/files" / name).read_bytes())


def safetensors_seeds():
    put("safetensors", "empty", safetensors([]))
    put("safetensors", "types", safetensors(
        [("a", "F32", 4, [2, 3]), ("b.weight", "BF16", 2, [5]), ("scalar", "I64", 8, []), ("none", "U8", 1, [0, 4]),
         ("c", "F8_E4M3", 1, [3])], {"format": "pt"}))
    put("safetensors", "one", safetensors([("x", "U8", 1, [1])]))
    put("safetensors", "pointer", "version https://git-lfs.github.com/spec/v1\n")


def main():
    for make in (safetensors_seeds, gguf_seeds, json_seeds, tokenizer_seeds, text_seeds, index_seeds, packed_seeds,
                 names_seeds, listing_seeds, picture_seeds):
        make()


if __name__ == "__main__":
    main()
