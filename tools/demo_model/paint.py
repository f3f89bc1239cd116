"""Draw held-out captions or edits with the scripts' own sampler, for a look at weights in training: PNG files and a sheet.

The noise is that of diffusers' pipeline with the seed (--seed + index of the case), so that its pictures are the same but for rounding.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from gpu_scenes import Renderer, encode_texts
from latents import Encoder, load_vae
from low_rank import merge_adapter
from networks import TextEncoder, make_transformer
from sampling import sample
from scenes import HERE, load_subjects
from sprites import build_atlas, load_glyphs
from train_transformer import load_weights


def seeded_noise(seed: int, grid: tuple[int, int]):
    """The pipeline's noise as tokens [tokens, 128]."""
    noise = torch.randn(1, 128, *grid, generator=torch.Generator().manual_seed(seed))
    return noise.flatten(2)[0].T


def to_image(picture) -> Image.Image:
    return Image.fromarray(((picture * 0.5 + 0.5) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy())


class Painter:
    def __init__(self, weights: Path, vae: Path, tokenizer: Path, device, adapter: Path | None = None):
        from tokenizers import Tokenizer

        self.device = torch.device(device)
        self.net, self.text = make_transformer(), TextEncoder()
        load_weights(self.net, self.text, weights)
        if adapter:
            merge_adapter(self.net, adapter)
        self.net.to(self.device).eval(), self.text.to(self.device).eval()
        self.encoder = Encoder(load_vae(vae, self.device), self.device)
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.renderer = Renderer(build_atlas(load_glyphs(load_subjects())), self.device)

    @torch.no_grad()
    def draw(self, prompts: list[str], seeds: list[int], canvas, references=None, steps: int = 4, guidance: float = 1.0,
             negative: str = "", once: bool = False):
        """Pictures [B, 3, height, width] in -1..1; references [B, R, 3, height, width]; `once` as in `networks.velocity`."""
        grid = (canvas[1] // 16, canvas[0] // 16)
        noise = torch.stack([seeded_noise(s, grid) for s in seeds]).to(self.device)
        tokens = None
        if references is not None:
            tokens = self.encoder.encode(references.flatten(0, 1)).unflatten(0, references.shape[:2])
        with self.encoder.autocast():
            ids, lengths = encode_texts(self.tokenizer, prompts, self.device)
            no_ids, no_lengths = encode_texts(self.tokenizer, [negative] * len(prompts), self.device)
            clean = sample(self.net, self.text(ids, lengths), noise, grid, tokens, steps, guidance, self.text(no_ids, no_lengths), once)
        return self.encoder.decode(clean, *grid)

    def references(self, cases: list[dict], canvas):
        rows = torch.tensor([[r["row"] for r in c["references"]] for c in cases], device=self.device)
        steers = torch.tensor([[r["steers"] for r in c["references"]] for c in cases], device=self.device)
        return self.renderer.scenes(rows.flatten(0, 1), steers.flatten(0, 1), canvas).unflatten(0, rows.shape[:2])


def strips(columns: int, lines: list[tuple[list[Image.Image], str]], side: int) -> Image.Image:
    """Rows of pictures with a text below each; several to a line of the sheet."""
    height = side + 14
    width = max(len(p) for p, _ in lines) * side + 8
    sheet = Image.new("RGB", (columns * width, -(-len(lines) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (pictures, text) in enumerate(lines):
        x, y = i % columns * width, i // columns * height
        for j, picture in enumerate(pictures):
            small = picture.copy()
            small.thumbnail((side - 2, side - 2), Image.Resampling.LANCZOS)
            sheet.paste(small, (x + j * side, y))
        pen.text((x + 1, y + side - 1), text[:width // 6], fill="black")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--cases", type=Path, default=HERE / "heldout.json")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="every N-th case from the I-th")
    parser.add_argument("--texts", type=Path, help="instead: lines of 'WIDTHxHEIGHT seed caption'")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--once", action="store_true", help="read references once, as the kv variant does")
    parser.add_argument("--adapter", type=Path, help="a low-rank difference to the weights: the base variant's")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--negative", default="", help="the negative prompt, with a guidance above 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    painter = Painter(args.weights, args.vae, args.tokenizer, args.device, args.adapter)
    if args.texts:
        cases = []
        for line in args.texts.read_text().splitlines():
            size, seed, text = line.split(" ", 2)
            cases.append({"canvas": [int(s) for s in size.split("x")], "caption": text, "seed": int(seed)})
    else:
        cases = json.loads(args.cases.read_text())
    chosen = list(range(args.part[0], len(cases), args.part[1]))
    groups: dict = {}
    for i in chosen:
        groups.setdefault((tuple(cases[i]["canvas"]), len(cases[i].get("references", []))), []).append(i)
    args.out.mkdir(parents=True, exist_ok=True)
    lines = {}
    for (canvas, count), members in groups.items():
        for start in range(0, len(members), args.batch):
            part = members[start:start + args.batch]
            mine = [cases[i] for i in part]
            references = painter.references(mine, canvas) if count else None
            prompts = [c.get("caption") or c["prompt"] for c in mine]
            seeds = [c.get("seed", args.seed + i) for c, i in zip(mine, part)]
            pictures = painter.draw(prompts, seeds, canvas, references, args.steps, args.guidance, args.negative, args.once)
            for j, i in enumerate(part):
                image = to_image(pictures[j])
                image.save(args.out / f"{i:03d}.png", compress_level=1)
                before = [to_image(r) for r in references[j]] if count else []
                lines[i] = ([*before, image], prompts[j])
    if args.sheet:
        strips(args.columns, [lines[i] for i in chosen], args.side).save(args.sheet, quality=90)


if __name__ == "__main__":
    main()
