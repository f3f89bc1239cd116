"""Pictures that diffusers draws with models/demo, for tests/e2e/demo_test.py: run after the model has changed."""

import json
import pathlib

import torch
from diffusers import Flux2KleinPipeline
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
OUT = ROOT / "tests/fixtures/demo"
CASES = [
    {"prompt": "a rocket on a navy to purple gradient", "seed": 7},
    {"prompt": "a cat on the left and a dog on the right, on a yellow background", "seed": 2},
    {"prompt": "a small owl in the top left corner on a pink background", "seed": 3},
    {"prompt": "a penguin next to a snowman on a sky blue background", "seed": 6, "width": 320, "height": 192},
    {"prompt": "turn it into a robot and make the background mint", "seed": 2, "references": ["2.png"]},
    {"prompt": "the subject of image 2 on the background of image 1", "seed": 2, "references": ["0.png", "2.png"]},
]


def main():
    model = ROOT / "models/demo"
    index = json.loads((model / "model_index.json").read_text())
    pipeline = Flux2KleinPipeline.from_pretrained(model, torch_dtype=torch.float32)
    OUT.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(CASES):
        references = [Image.open(OUT / name).convert("RGB") for name in case.get("references", [])]
        picture = pipeline(
            prompt=case["prompt"], image=references or None, height=case.get("height", 256), width=case.get("width", 256),
            num_inference_steps=4, guidance_scale=1.0,
            max_sequence_length=index["max_sequence_length"],
            text_encoder_out_layers=tuple(index["text_encoder_out_layers"]),
            generator=torch.Generator("cpu").manual_seed(case["seed"])).images[0]
        case["picture"] = f"{number}.png"
        picture.save(OUT / case["picture"], optimize=True)
    (OUT / "cases.json").write_text(json.dumps(CASES, indent=1) + "\n")


if __name__ == "__main__":
    main()
