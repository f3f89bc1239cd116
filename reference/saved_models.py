"""Whether mflux and diffusers load what `klein save` writes. Prints a table; docs/checkpoints.md holds it.

    python reference/saved_models.py build/klein            # both
    python reference/saved_models.py build/klein mflux      # or diffusers

mflux 0.24.0 is loaded with its own WeightLoader, WeightApplier and modules; beside requirements.txt it wants
`pip install --no-deps mflux==0.24.0 platformdirs toml piexif` and what else its imports name. Of the demo model only
the sizes are given to its modules. Three things are compared, bit for bit:

- every parameter that it loaded with what its own mapping and mx.quantize make of models/demo;
- that nothing it has is left as it was made;
- dequantized in float32 and rounded to bfloat16: with what klein decodes (saved once more as diffusers).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
DEMO = ROOT / "models/demo"
BITS = ("none", "3", "4", "5", "6", "8", "mixed")
FLAGS = {"none": [], "mixed": ["--quantize-transformer", "4", "--quantize-text-encoder", "8"]}


def config(part):
    return json.loads((DEMO / part / "config.json").read_text())


def save(klein, folder, model, *arguments):
    subprocess.run([klein, "save", "--model", model, "--path", folder, "--quiet", *arguments], check=True)
    return folder


def mflux_modules():
    """mflux's networks in the demo model's sizes."""
    from mflux.models.flux2.model.flux2_text_encoder.qwen3_text_encoder import Qwen3TextEncoder
    from mflux.models.flux2.model.flux2_transformer.transformer import Flux2Transformer
    from mflux.models.flux2.model.flux2_vae.decoder.decoder import Flux2Decoder
    from mflux.models.flux2.model.flux2_vae.encoder.encoder import Flux2Encoder
    from mflux.models.flux2.model.flux2_vae.vae import Flux2VAE

    def chosen(part, *names):
        return {name: config(part)[name] for name in names}

    sizes = chosen("vae", "block_out_channels", "layers_per_block", "norm_num_groups")
    vae = Flux2VAE()
    vae.encoder, vae.decoder = Flux2Encoder(**sizes), Flux2Decoder(**sizes)
    transformer = Flux2Transformer(**chosen("transformer", "in_channels", "num_layers", "num_single_layers",
                                            "attention_head_dim", "num_attention_heads", "joint_attention_dim",
                                            "axes_dims_rope"))
    text_encoder = Qwen3TextEncoder(**chosen("text_encoder", "vocab_size", "hidden_size", "num_hidden_layers",
                                             "num_attention_heads", "num_key_value_heads", "intermediate_size", "head_dim",
                                             "rope_theta"))
    return {"vae": vae, "transformer": transformer, "text_encoder": text_encoder}


def mapped(folder):
    """Part -> tensors of a diffusers folder under mflux's names, by mflux's mapping."""
    import mlx.core as mx
    from mflux.models.common.weights.mapping.weight_mapper import WeightMapper
    from mflux.models.flux2.weights.flux2_weight_definition import Flux2KleinWeightDefinition
    from mlx.utils import tree_flatten

    parts = {}
    for component in Flux2KleinWeightDefinition.get_components():
        raw = {}
        for path in (folder / component.hf_subdir).glob("*.safetensors"):
            raw |= mx.load(str(path))
        tree = WeightMapper.apply_mapping(hf_weights=raw, mapping=component.mapping_getter())
        parts[component.name] = dict(tree_flatten(tree))
    return parts


def check_mflux(klein, folder, bits):
    """Counts: all tensors of mflux's modules; packed matrices, and how many of them are mflux's own packing and decode to
    our numbers; the others that are those of the demo model."""
    import mlx.core as mx
    from mflux.models.common.weights.loading.weight_applier import WeightApplier
    from mflux.models.common.weights.loading.weight_loader import WeightLoader
    from mflux.models.flux2.weights.flux2_weight_definition import Flux2KleinWeightDefinition
    from mlx import nn
    from mlx.utils import tree_flatten

    saved = save(klein, folder / bits, DEMO, *FLAGS.get(bits, ["-q", bits]))
    decoded = mapped(save(klein, folder / (bits + "-diffusers"), saved, "--format", "diffusers"))
    dense = mapped(DEMO)
    modules = mflux_modules()
    unset = {(part, name): id(value) for part, module in modules.items()
             for name, value in tree_flatten(module.parameters())}
    weights = WeightLoader.load(weight_definition=Flux2KleinWeightDefinition, model_path=str(saved))
    WeightApplier.apply_and_quantize(weights=weights, models=modules, quantize_arg=None,
                                     weight_definition=Flux2KleinWeightDefinition)
    counts = {"tensors": 0, "packed": 0, "packs alike": 0, "decodes alike": 0, "dense alike": 0, "computed": 0}

    def same(a, b):
        return a.shape == b.shape and bool(mx.array_equal(a.view(mx.uint8), b.view(mx.uint8)))

    for part, module in modules.items():
        packed = {name: layer for name, layer in module.named_modules()
                  if isinstance(layer, (nn.QuantizedLinear, nn.QuantizedEmbedding))}
        for name, layer in packed.items():
            counts["packed"] += 1
            own = mx.quantize(dense[part][name + ".weight"], layer.group_size, layer.bits)
            stored = (layer.weight, layer.scales, layer.biases)
            counts["packs alike"] += all(same(a, b) for a, b in zip(stored, own, strict=True))
            wide = mx.dequantize(layer.weight, layer.scales.astype(mx.float32), layer.biases.astype(mx.float32),
                                 layer.group_size, layer.bits)
            counts["decodes alike"] += same(wide.astype(mx.bfloat16), decoded[part][name + ".weight"])
        for name, value in tree_flatten(module.parameters()):
            counts["tensors"] += 1
            if name.rpartition(".")[0] in packed and name.rpartition(".")[2] in ("weight", "scales", "biases"):
                continue
            if name not in dense[part]:
                counts["computed"] += 1  # the text encoder's rotary_emb.inv_freq, which nobody has to save
            elif unset.get((part, name)) != id(value):
                counts["dense alike"] += same(value, dense[part][name].astype(mx.bfloat16))
    return counts


def check_diffusers(klein, folder):
    """The greatest difference between pictures of the original and of the saved model, drawn by diffusers."""
    import numpy as np
    import torch
    from diffusers import Flux2KleinPipeline

    index = json.loads((DEMO / "model_index.json").read_text())

    def draw(model):
        pipeline = Flux2KleinPipeline.from_pretrained(model, torch_dtype=torch.float32)
        return np.asarray(pipeline(prompt="a red apple", height=64, width=64, num_inference_steps=2, guidance_scale=1.0,
                                   max_sequence_length=index["max_sequence_length"],
                                   text_encoder_out_layers=tuple(index["text_encoder_out_layers"]),
                                   generator=torch.Generator("cpu").manual_seed(7)).images[0]).astype(int)

    saved = save(klein, folder / "diffusers", DEMO, "--format", "diffusers")
    packed = save(klein, folder / "four", DEMO, "-q", "4")
    unpacked = save(klein, folder / "four-diffusers", packed, "--format", "diffusers")
    original = draw(DEMO)
    return abs(draw(saved) - original).max(), abs(draw(unpacked) - original).max()


def main():
    klein, which = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:] or ["mflux", "diffusers"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if "mflux" in which:
            for bits in BITS:
                counts = check_mflux(klein, folder, bits)
                print(f"mflux {bits:>5}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
        if "diffusers" in which:
            same, four = check_diffusers(klein, folder)
            print(f"diffusers: largest difference of a pixel {same} from the original, {four} of its 4-bit form")


if __name__ == "__main__":
    main()
