"""The demo model's tokenizer: a small byte-level BPE in the format of Qwen's tokenizer.json."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from captions import caption
from scenes import load_subjects, random_scene

VOCABULARY = 2043
MAX_TOKENS = 64
PAD = "<|endoftext|>"
SPECIAL = (PAD, "<|im_start|>", "<|im_end|>")
PLAIN_ADDED = ("<think>", "</think>")
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""


def train_tokenizer(samples: int = 60000, seed: int = 11) -> Tokenizer:
    """Train the vocabulary on captions."""
    subjects, rng = load_subjects(), random.Random(seed)
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False, special_tokens=[],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    lines = [caption(rng, random_scene(rng, len(subjects)), subjects) for _ in range(samples)]
    lines += ["user\n" + line + "\nassistant\n\n\n" for line in lines[:2000]]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN_ADDED])
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer) -> dict:
    """The tokenizer_config.json that goes with it."""
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                             "single_word": False, "special": t in SPECIAL}
             for t in SPECIAL + PLAIN_ADDED}
    return {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": 131072, "pad_token": PAD, "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}


def save_tokenizer(folder: Path) -> Tokenizer:
    """Train and write the tokenizer folder of the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(tokenizer), indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer and write its folder.")
    parser.add_argument("folder", type=Path)
    tokenizer = save_tokenizer(parser.parse_args().folder)
    rng, subjects = random.Random(5), load_subjects()
    longest = max(len(tokenizer.encode(TEMPLATE.format(caption(rng, random_scene(rng, len(subjects)), subjects))).ids)
                  for _ in range(20000))
    print(f"{tokenizer.get_vocab_size()} tokens; longest of 20000 captions: {longest}")


if __name__ == "__main__":
    main()
