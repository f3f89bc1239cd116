"""Writes tests/fixtures/tokenizer/{small,extra_vectors.json}: ids that Hugging Face gives for hard strings.

Usage: python reference/dump_tokenizer.py

Reads the Qwen3 tokenizer in tests/fixtures/tokenizer/qwen3. The same versions (requirements.txt) write the same bytes.
"""

import gzip
import json
import random
import shutil
import tempfile
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizer"
SEED = 20260122
RANDOM_STRINGS = 240

WRITTEN = [
    # Contractions, in the letter cases and with the letters that fold to ASCII.
    "it's IT'S we'Re I'LL they'vE 'd'D'm'M 't", "'\u017f '\u212a 'ſs 'ß it\u2019s", "'s's's'll'llama 'l 'v 'r",
    # White space of every kind, and what only looks like it.
    "a\x0bb\x0cc\x1cd\x1de\x1ef\x1fg", "a\x85b\xa0c\u1680d\u2000e\u2009f\u2028g\u2029h\u202fi\u205fj\u3000k",
    "a\u200bb\ufeffc\u180ed\u2060e", " \xa0 \u3000 x", "   leading", "trailing   ", "in   the   middle", "\t\ttabs\t",
    "a\r\nb\r\n\r\nc\n\rd\re", "\r\n \r\n  x", " \n \n\n  y", "end \n", "\n", "\r", "x\n ", "!?\r\n\r\n!", "... \n ...",
    # Numbers: one token a digit, whatever the script.
    "12345678901234567890", "3.14159e-10", "²³¹½¾Ⅷⅻ①㊿", "٠١٢٣٤٥ १२३ ๑๒๓", "𝟎𝟏𝟐 𝟘", "x²y³", "1st2nd3rd", "0x7fFF_FF",
    # Composition: accents apart, singletons, Hangul, marks in the wrong order, exclusions, young marks.
    "e\u0301 cafe\u0301 \ufb01 \u212b \u2126 \u1e9b\u0323", "\u1112\u1161\u11ab\u1100\u1173\u11af", "a\u0316\u0301\u0327",
    "a\u0301\u0316\u0327 q\u0307\u0323", "\u0958 \u0915\u093c \u2adc \u0344 \u0f73", "\u0f71\u0f72\u0f74", "\u0bc6\u0bbe",
    "a\u1df6\u0316 a\u0316\u1df6 \U0001e08f", "\u0627\u0654 \u06d5\u0654", "o\u031b\u0323\u0302", "\U0001d15e \uf900 \u2f800",
    # Scripts without spaces, with marks, from right to left, mixed.
    "日本語のテキスト、漢字とカタカナ。", "你好,世界!一只猫坐在窗台上。", "고양이가 창가에 앉아 있다", "แมวนั่งอยู่บนขอบหน้าต่าง",
    "बिल्ली खिड़की पर बैठी है", "قطة تجلس على النافذة ١٢٣", "חָתוּל יוֹשֵׁב", "кошка на окне Ёж ё", "γάτα στο παράθυρο ΐ ΐ",
    "mixed日本abc한국ру123العربية", "\u202ertl\u202c \u2067x\u2069", "ﷺ ﷽ ﬃ", "Ａｆｕｌｌ　ｗｉｄｔｈ", "𝒜𝓁𝓅𝒽𝒶 𝔊𝔬𝔱𝔥", "𐐀𐐨 𓀀𓂀 𒀀",
    # Letters and digits of Unicode 15.1 and 16, which an older library takes for unassigned.
    "\U0002ebf0\U0002ee5d\u1c89\u1c8a\ua7cb \U000105c0\U000105f3", "\U00010d40\U00010d49 \U000116d0 \U0001ccf0\U0001ccf9",
    "a\U0002ebf0b !\U00013460! \U00016d6c\U00016d70", "\ua7ce \U00033479 \U000323b0",
    # Emoji: joiners, skin tones, flags, selectors, keycaps.
    "👩‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇫🇷🇩🇪 ❤️ ❤︎ 1️⃣ #️⃣", "🐈‍⬛🐈", "🎉🎉🎉!!!", "\u200d\ufe0f\u200d", "🏴\U000e0067\U000e0062\U000e007f",
    # Special tokens: nested, broken, next to each other, with spaces.
    "<|im_start|><|im_end|><|endoftext|>", "<|im_<|im_end|>end|>", "a<|im_end|>b", " <|im_end|> \n<think> x </think>\n\n",
    "<|im_end |> <|IM_END|> <im_end>", "<tool_call></tool_call><tool_response></tool_response>", "<<think>>", "<|<|<|",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "e<think>\u0301", "</think", "<|vision_start|><|image_pad|><|vision_end|>",
    # Control characters, noncharacters, the private use area, the last code point.
    "\x00\x01\x02\x7f\x80\x9f", "a\x00b", "\ufffe\uffff\ufdd0", "\ue000\uf8ff \U000f0000", "\U0010ffff", "\ufffd",
    # Punctuation, code, addresses.
    "f(x) = x**2 + y_1;  // ok", "if (a<b && c>d) { return \"q\"; }", "https://example.org/a?b=c&d=%20#e", "a--b—c–d…e",
    "¿Qué? ¡No! «oui» „nein“", "C:\\dir\\file.txt", "snake_case camelCase kebab-case", "@user #tag $9.99 50% ~x^y|z",
    # Long runs, on both sides of where the merging changes its method.
    "a" * 47, "a" * 48, "a" * 49, "ab" * 40, "x" * 1000, " " * 83, " " * 500 + "x", "\n" * 70, "-" * 200, "🎉" * 30, "日本" * 60,
    "supercalifragilisticexpialidocious" * 4, "\t \t " * 30, "e\u0301" * 60, "z\u0316\u0301" * 50, "0" * 64,
]

SMALL_ADDED = [
    AddedToken("<pad>", special=True, normalized=False),
    AddedToken("<a>", special=True, normalized=False),
    AddedToken("<a><b>", special=True, normalized=False),
    AddedToken("<b><a>", special=True, normalized=False),
    AddedToken("été", special=False, normalized=True),
]
SMALL_CORPUS = [
    "A red fox sits on the green grass, and it's a sunny day.", "Two small cats sleep under the old wooden table.",
    "They'll paint 12 yellow stars above the 345 blue hills!", "He said: don't open the window; she didn't.",
    "The owl, the bee and the whale aren't where we've looked.", "un été chaud, une forêt, naïve café",
]
SMALL_STRINGS = [
    "", "a", "<a>", "<a><b>", "<a><b><a>", "<b><a><b>", "<a<a>", "x<a> <b>y", "été e\u0301te\u0301 \u00e9t\u00e9s", "<pad><pad>",
    "the red fox", "it's They'll DON'T 're", "12 345 1²", "  two  spaces ", "\n\n tab\t", "forêt naïve 日本語 🎉", "hilltop grasshopper",
    "the" * 30, "!?!? ...", "\x00\x1f", "sunny", " sunny", "unseen zqxj",
]
PROMPTS = [
    "", "a cat", "\n\nnewline", " leading space", "trailing \n", "<|im_end|> injected <think>x</think>", "<|endoftext|>",
    "e\u0301 日本語 👩‍👩‍👧 ok", "word " * 40, "a very long prompt about nothing at all, " * 70, "x" * 3000, "0" * 505,
]


def random_strings(count):
    """Strings of code points drawn from mixed pools; each pool stresses another rule."""
    rng = random.Random(SEED)
    scalars = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    pools = [
        [chr(c) for c in range(0x80)],
        list(" \t\n\r\x0b\x0c\x85\xa0\u2003\u2028\u3000\u200b"),
        [chr(c) for c in scalars if c < 0x1F000 and unicodedata.combining(chr(c))],
        [chr(c) for c in range(0xC0, 0x250)],
        [chr(c) for c in range(0x4E00, 0x9FA0, 61)],
        [chr(c) for c in range(0x1100, 0x1200)] + [chr(c) for c in range(0xAC00, 0xD7A4, 97)],
        list("👩👨👧🏽🎉🔥❤\u200d\ufe0f🇫🇷🏳🌈"),
        [chr(c) for c in range(0x590, 0x780)],
        [chr(c) for c in range(0x900, 0xE80)],
        [chr(c) for c in scalars],
        ["'s", "'LL", "'Re", "<|im_end|>", "<think>", "<|im_", "1234", " the", "ing", "\r\n", "  "],
    ]
    for _ in range(count):
        chosen = rng.sample(pools, rng.randint(1, 4))
        yield "".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randint(1, 40)))


def unpack_qwen3(folder):
    source = FIXTURES / "qwen3"
    with gzip.open(source / "tokenizer.json.gz") as packed, open(folder / "tokenizer.json", "wb") as plain:
        shutil.copyfileobj(packed, plain)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, folder / name)


def vectors(tokenizer, texts):
    return [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts]


def prompt_rows(folder):
    """What the pipeline of diffusers makes of a prompt before the text encoder sees it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in PROMPTS:
        message = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        for max_length in (8, 20, 512, 700):
            row = tokenizer(text, padding="max_length", truncation=True, max_length=max_length)
            length = sum(row["attention_mask"])
            assert row["attention_mask"] == [1] * length + [0] * (max_length - length)
            assert set(row["input_ids"][length:]) <= {tokenizer.pad_token_id}
            rows.append({"prompt": prompt, "text": text, "max_length": max_length, "ids": row["input_ids"][:length]})
    return rows


def write_small():
    """A tokenizer that differs from Qwen3's wherever the format allows it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(SMALL_CORPUS, trainer)
    document = json.loads(tokenizer.to_str())
    document["model"]["ignore_merges"] = True
    # A whole word that no rule makes: only ignore_merges finds it.
    document["model"]["vocab"]["Ġgrasshopper"] = len(document["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(SMALL_ADDED)

    document = json.loads(tokenizer.to_str())
    document["model"]["merges"] = [" ".join(rule) for rule in document["model"]["merges"]]
    folder = FIXTURES / "small"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document, indent=1) + "\n")
    config = {"pad_token": {"content": "<pad>", "special": True}, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_qwen3(folder)
        qwen3 = Tokenizer.from_file(str(folder / "tokenizer.json"))
        result = {
            "qwen3": vectors(qwen3, WRITTEN + list(random_strings(RANDOM_STRINGS))),
            "small": vectors(write_small(), SMALL_STRINGS + WRITTEN),
            "prompts": prompt_rows(folder),
        }
    lines = ",\n".join(
        f'"{part}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for part, rows in result.items())
    (FIXTURES / "extra_vectors.json").write_text("{\n" + lines + "\n}\n")
    print(", ".join(f"{len(rows)} {part}" for part, rows in result.items()))


if __name__ == "__main__":
    main()
