"""Pictures that diffusers draws with models/demo, for tests/e2e/demo_test.py: run after the model has changed."""

import json
import pathlib

import torch
from diffusers import Flux2KleinPipeline

ROOT = pathlib.Path(__file__).parent.parent
OUT = ROOT / "tests/fixtures/demo"
CASES = [
    {"prompt": "a rocket on a navy to purple gradient", "seed": 7},
    {"prompt": "a cat on the left and a dog on the right, on a yellow background", "seed": 2},
    {"prompt": "a small owl in the top left corner on a pink background", "seed": 3},
]


def main():
    model = ROOT / "models/demo"
    index = json.loads((model / "model_index.json").read_text())
    pipeline = Flux2KleinPipeline.from_pretrained(model, torch_dtype=torch.float32)
    OUT.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(CASES):
        picture = pipeline(
            prompt=case["prompt"], height=256, width=256, num_inference_steps=4, guidance_scale=1.0,
            max_sequence_length=index["max_sequence_length"],
            text_encoder_out_layers=tuple(index["text_encoder_out_layers"]),
            generator=torch.Generator("cpu").manual_seed(case["seed"])).images[0]
        case["picture"] = f"{number}.png"
        picture.save(OUT / case["picture"], optimize=True)
    (OUT / "cases.json").write_text(json.dumps(CASES, indent=1) + "\n")


if __name__ == "__main__":
    main()
