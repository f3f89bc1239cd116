"""Write a trained checkpoint as a diffusers folder that Flux2KleinPipeline loads: the same inputs give the same bytes.

Beside it (--out FOLDER) lie the variants, which share its parts by links: FOLDER-kv, and with --adapter FOLDER-base.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from low_rank import CONFIG, FILE
from networks import TEXT, TEXT_LAYERS, TRANSFORMER, VAE
from scenes import COLOUR_NAMES, load_subjects
from tokens import MAX_TOKENS, PAD, SPECIAL

PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
DIFFUSERS = "0.42.1"
TRANSFORMERS = "5.17.0"


def write_json(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def model_index(variant: str) -> dict:
    name = "Flux2KleinKVPipeline" if variant == "kv" else "Flux2KleinPipeline"
    own = {"guidance_scale": 2.0, "num_inference_steps": 20} if variant == "base" else {}
    return {"_class_name": name, "_diffusers_version": DIFFUSERS, "is_distilled": variant != "base", **own,
            "max_sequence_length": MAX_TOKENS, "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen3ForCausalLM"], "text_encoder_out_layers": list(TEXT_LAYERS),
            "tokenizer": ["transformers", "Qwen2TokenizerFast"], "transformer": ["diffusers", "Flux2Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLFlux2"]}


def scheduler_config() -> dict:
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": DIFFUSERS, "base_image_seq_len": 256,
            "base_shift": 0.5, "invert_sigmas": False, "max_image_seq_len": 4096, "max_shift": 1.15,
            "num_train_timesteps": 1000, "shift": 3.0, "shift_terminal": None, "stochastic_sampling": False,
            "time_shift_type": "exponential", "use_beta_sigmas": False, "use_dynamic_shifting": True,
            "use_exponential_sigmas": False, "use_karras_sigmas": False}


def transformer_config() -> dict:
    return {"_class_name": "Flux2Transformer2DModel", "_diffusers_version": DIFFUSERS, "out_channels": None,
            **TRANSFORMER, "axes_dims_rope": list(TRANSFORMER["axes_dims_rope"])}


def vae_config() -> dict:
    levels = len(VAE["block_out_channels"])
    return {"_class_name": "AutoencoderKLFlux2", "_diffusers_version": DIFFUSERS, "act_fn": "silu",
            "batch_norm_eps": 1e-4, "batch_norm_momentum": 0.1, "decoder_block_out_channels": None,
            "down_block_types": ["DownEncoderBlock2D"] * levels, "in_channels": 3, "out_channels": 3,
            "patch_size": [2, 2], "up_block_types": ["UpDecoderBlock2D"] * levels, "use_post_quant_conv": True,
            "use_quant_conv": True, **VAE, "block_out_channels": list(VAE["block_out_channels"])}


def text_config(pad: int, end: int) -> dict:
    sizes = {k: v for k, v in TEXT.items() if k != "rope_theta"}
    return {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": pad, "dtype": "bfloat16", "eos_token_id": end, "hidden_act": "silu",
            "initializer_range": 0.02, **sizes, "layer_types": ["full_attention"] * TEXT["num_hidden_layers"],
            "max_position_embeddings": 512, "max_window_layers": TEXT["num_hidden_layers"], "model_type": "qwen3",
            "pad_token_id": None, "rope_parameters": {"rope_theta": TEXT["rope_theta"], "rope_type": "default"},
            "rope_scaling": None, "rope_theta": TEXT["rope_theta"], "sliding_window": None,
            "tie_word_embeddings": True, "transformers_version": TRANSFORMERS, "use_cache": True,
            "use_sliding_window": False}


def save_weights(tensors: dict, path: Path) -> None:
    """bfloat16, integers as they are, in name order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {n: (t.bfloat16() if t.is_floating_point() else t).contiguous() for n, t in sorted(tensors.items())}
    save_file(ready, path, metadata={"format": "pt"})
    path.chmod(0o644)


def licence_text() -> str:
    """The font's copyright and the text of its licence, from the Debian package's copyright file."""
    lines = Path("/usr/share/doc/fonts-noto-color-emoji/copyright").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("License:   SIL-1.1") and lines[i + 1].startswith(" This"))
    body = [line[1:] if line[1:] != "." else "" for line in lines[start + 1:]]
    return "Copyright 2013-2017 Google Inc.\nCopyright Arjen Nienhuis <a.g.nienhuis@gmail.com>\n\n" + "\n".join(body).rstrip() + "\n"


def copy(source: Path, target: Path) -> None:
    """Also where both are one file: a model may be exported onto the one that its tokenizer is of."""
    target.write_bytes(source.read_bytes())


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def export_variants(out: Path, adapter: Path | None) -> None:
    """The variants beside an exported model: the kv one is the same weights, the base one's transformer a low-rank difference to them."""
    for variant in ("kv", "base") if adapter else ("kv",):
        folder = out.with_name(f"{out.name}-{variant}")
        write_json(folder / "model_index.json", model_index(variant))
        for part in PARTS:
            if part != "transformer" or variant == "kv":
                link(folder / part, f"../{out.name}/{part}")
    if adapter:
        link(folder / "transformer/config.json", f"../../{out.name}/transformer/config.json")
        save_weights(load_file(adapter / FILE), folder / "transformer" / FILE)
        copy(adapter / CONFIG, folder / "transformer" / CONFIG)


def export(vae: Path, weights: Path, tokenizer: Path, out: Path) -> None:
    """Write all files but the model card."""
    write_json(out / "model_index.json", model_index("distilled"))
    write_json(out / "scheduler" / "scheduler_config.json", scheduler_config())
    write_json(out / "transformer" / "config.json", transformer_config())
    write_json(out / "vae" / "config.json", vae_config())
    table = {a["content"]: a["id"] for a in json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]}
    write_json(out / "text_encoder" / "config.json", text_config(table[PAD], table[SPECIAL[2]]))
    write_json(out / "text_encoder" / "generation_config.json",
               {"eos_token_id": table[SPECIAL[2]], "pad_token_id": table[PAD], "transformers_version": TRANSFORMERS})
    save_weights(load_file(vae), out / "vae" / "diffusion_pytorch_model.safetensors")
    save_weights(load_file(weights / "transformer.safetensors"), out / "transformer" / "diffusion_pytorch_model.safetensors")
    save_weights(load_file(weights / "text_encoder.safetensors"), out / "text_encoder" / "model.safetensors")
    (out / "tokenizer").mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        copy(tokenizer / name, out / "tokenizer" / name)
    (out / "subjects.txt").write_text("\n".join(s.name for s in load_subjects()) + "\n")
    (out / "colours.txt").write_text("\n".join(COLOUR_NAMES) + "\n")
    if Path("/usr/share/doc/fonts-noto-color-emoji/copyright").exists():
        (out / "LICENSE-OFL.txt").write_text(licence_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True, help="vae.safetensors")
    parser.add_argument("--weights", type=Path, required=True, help="folder with transformer and text_encoder .safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, help="folder of the base variant's difference")
    args = parser.parse_args()
    torch.manual_seed(0)
    export(args.vae, args.weights, args.tokenizer, args.out)
    export_variants(args.out, args.adapter)
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
