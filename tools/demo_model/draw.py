"""Draw captions or edits with diffusers' own pipeline of a model: one PNG per case, and a contact sheet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from scenes import HERE


def contact_sheet(pictures: list[Image.Image], texts: list[str], columns: int, side: int) -> Image.Image:
    rows = (len(pictures) + columns - 1) // columns
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + 26)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(zip(pictures, texts)):
        x, y = i % columns * (side + 4), i // columns * (side + 26)
        shown = picture.copy()
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        sheet.paste(shown, (x, y))
        cut = max(1, side // 6)
        pen.text((x + 1, y + side), text[:cut] + "\n" + text[cut:2 * cut], fill="black", spacing=0)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--captions", type=Path, default=HERE / "heldout.json",
                        help="JSON list of objects with a caption or an edit's prompt, and a canvas; or a text file")
    parser.add_argument("--references", type=Path, help="folder of the edits' references (heldout.py --references)")
    parser.add_argument("--every", type=int, default=1, help="draw every N-th case only")
    parser.add_argument("--out", type=Path, help="folder for the PNG files")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--side", type=int, default=256, help="size of a picture on the sheet")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0, help="of a base model")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture; the next ones count up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    from diffusers import DiffusionPipeline

    if args.captions.suffix == ".json":
        cases = json.loads(args.captions.read_text())
    else:
        cases = [{"caption": t} for t in args.captions.read_text().splitlines() if t]
    chosen = range(0, min(len(cases), args.limit or len(cases)), args.every)
    pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    options, pictures, texts = json.loads((args.model / "model_index.json").read_text()), [], []
    guided = {} if options["_class_name"] == "Flux2KleinKVPipeline" else {"guidance_scale": args.guidance}
    for i in chosen:
        case = cases[i]
        width, height = case.get("canvas", (256, 256))
        references = [Image.open(args.references / f"{i:03d}_{j + 1}.png") for j in range(len(case.get("references", [])))]
        texts.append(case.get("caption") or case["prompt"])
        pictures += pipe(prompt=texts[-1], image=references or None, height=height, width=width, num_inference_steps=args.steps,
                         generator=torch.Generator().manual_seed(args.seed + i),
                         max_sequence_length=options["max_sequence_length"],
                         text_encoder_out_layers=tuple(options["text_encoder_out_layers"]), **guided).images
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            pictures[-1].save(args.out / f"{i:03d}.png")
    if args.sheet:
        contact_sheet(pictures, texts, args.columns, args.side).save(args.sheet)


if __name__ == "__main__":
    main()
