"""Tiny checkpoints in diffusers' layout: a distilled model, a base model, and a sharded bfloat16 copy.

The folders are written by save_pretrained. Two files are then brought to the form that the published
checkpoints have: text_encoder/config.json of the distilled model (transformers 4 wrote `rope_theta` at
the top level; the base model keeps the newer `rope_parameters`), and model_index.json, which gains the
two keys that this project adds for models of other depths and prompt lengths.
"""

import json
import shutil

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Qwen2TokenizerFast

from common import FIXTURES, Rng, write_json
from qwen3_fixtures import CONFIG as QWEN3
from qwen3_fixtures import tiny_qwen3
from sampling_fixtures import KLEIN as SCHEDULER
from vae_fixtures import CONFIG_A as VAE

FOLDER = FIXTURES / "models"
OUT_LAYERS = (1, 2, 3)
MAX_LENGTH = 32

# The split rule, the added tokens and the template are those of the published tokenizer.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ("<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
           "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>")
ADDED = ("<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
         "<tool_response> </tool_response> <think> </think>")
TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
CORPUS = ["user\n", "assistant\n", "\n\n", "\n\n"] * 8 + [
    "a red apple on a wooden table", "a small yellow cat on a blue background", "a green tree at the top",
    "two birds on a red to white gradient", "a large blue fish in the center", "photo of a cat, soft light",
] * 3


def tokenizer():
    bpe = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    bpe.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(**byte_level)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(**byte_level)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=318, initial_alphabet=alphabet, show_progress=False)
    )
    plain = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    bpe.add_tokens([AddedToken(t, special=True, **plain) for t in SPECIAL.split()])
    bpe.add_tokens([AddedToken(t, special=False, **plain) for t in ADDED.split()])
    return bpe


def write_tokenizer(folder):
    """The three files of a tokenizer folder, in the form of the published ones."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = tokenizer()
    # Indented JSON of a sorted vocabulary: one token a line, easy to read and to compare.
    data = json.loads(bpe.to_str())
    data["model"]["vocab"] = dict(sorted(data["model"]["vocab"].items(), key=lambda item: item[1]))
    write_json(folder / "tokenizer.json", data)
    added = {
        str(bpe.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                  "single_word": False, "special": t in SPECIAL.split()}
        for t in (SPECIAL + " " + ADDED).split()
    }
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
              "additional_special_tokens": SPECIAL.split()[1:], "bos_token": None,
              "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
              "model_max_length": 131072, "pad_token": "<|endoftext|>", "split_special_tokens": False,
              "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return bpe


def tiny_pipeline(name, folder, is_distilled):
    bpe = write_tokenizer(folder / "tokenizer")
    pad, eos = bpe.token_to_id("<|endoftext|>"), bpe.token_to_id("<|im_end|>")
    # More ids than tokens, as published; one layer more than is read, which a loader may leave out.
    qwen3 = QWEN3 | {"vocab_size": 352, "num_hidden_layers": len(OUT_LAYERS) + 1, "max_position_embeddings": 256,
                     "intermediate_size": 40, "head_dim": 12, "bos_token_id": pad, "eos_token_id": eos}
    transformer = Flux2Transformer2DModel(
        in_channels=128, num_layers=1, num_single_layers=2, num_attention_heads=2, attention_head_dim=8,
        joint_attention_dim=3 * qwen3["hidden_size"], axes_dims_rope=(2, 2, 2, 2), mlp_ratio=3.0, rope_theta=2000,
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(**(VAE | {"latent_channels": 32, "block_out_channels": [4, 4, 8, 8], "sample_size": 1024}))
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=Rng(f"models/{name}/vae").fill(vae),
        text_encoder=tiny_qwen3(qwen3, f"models/{name}/text_encoder"),
        tokenizer=Qwen2TokenizerFast.from_pretrained(folder / "tokenizer"),
        transformer=Rng(f"models/{name}/transformer").fill(transformer),
        is_distilled=is_distilled,
    )


def edit_json(path, change):
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    write_json(path, data)


def finish(folder, is_distilled, published_rope):
    """The edits that the module's docstring names."""

    def index(data):
        if not is_distilled:
            del data["is_distilled"]  # as published: the base models lack the key
        data["tokenizer"] = ["transformers", "Qwen2TokenizerFast"]
        data |= {"text_encoder_out_layers": list(OUT_LAYERS), "max_sequence_length": MAX_LENGTH}

    def rope(data):
        data["rope_theta"] = data.pop("rope_parameters")["rope_theta"]
        data["rope_scaling"] = None

    for path in (folder / "model_index.json", *folder.glob("*/config.json")):
        edit_json(path, lambda data: data.pop("_name_or_path", None))  # this machine's folders
    edit_json(folder / "model_index.json", index)
    if published_rope:
        edit_json(folder / "text_encoder" / "config.json", rope)
    write_tokenizer(folder / "tokenizer")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def load(name, dtype=torch.float32):
    pipe = Flux2KleinPipeline.from_pretrained(FOLDER / name, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make():
    for name, is_distilled in (("tiny-distilled", True), ("tiny-base", False)):
        folder = FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        tiny_pipeline(name, folder, is_distilled).save_pretrained(folder)
        finish(folder, is_distilled, published_rope=is_distilled)
    folder = FOLDER / "tiny-sharded"
    shutil.rmtree(folder, ignore_errors=True)
    pipe = load("tiny-distilled", torch.bfloat16)
    pipe.save_pretrained(folder)
    pipe.transformer.save_pretrained(folder / "transformer", max_shard_size="40KB")
    pipe.text_encoder.save_pretrained(folder / "text_encoder", max_shard_size="40KB")
    for part, whole in (("transformer", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / part / f"{whole}.safetensors").unlink(missing_ok=True)
    finish(folder, True, published_rope=False)
