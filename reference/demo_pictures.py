"""Pictures that diffusers draws with the demo models, for tests/e2e/demo_test.py: run after a model has changed."""

import json
import pathlib
import sys

import diffusers
import torch
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import compare_diffusers  # noqa: E402

OUT = ROOT / "tests/fixtures/demo"
CASES = [
    {"prompt": "a rocket on a navy to purple gradient", "seed": 7},
    {"prompt": "a cat on the left and a dog on the right, on a yellow background", "seed": 2},
    {"prompt": "a small owl in the top left corner on a pink background", "seed": 3},
    {"prompt": "a penguin next to a snowman on a sky blue background", "seed": 6, "width": 320, "height": 192},
    {"prompt": "turn it into a robot and make the background mint", "seed": 2, "references": ["2.png"]},
    {"prompt": "the subject of image 2 on the background of image 1", "seed": 2, "references": ["0.png", "2.png"]},
    {"model": "demo-kv", "prompt": "turn it into a robot and make the background mint", "seed": 2, "references": ["2.png"]},
    {"model": "demo-kv", "prompt": "put image 1 left of image 2", "seed": 2, "references": ["0.png", "2.png"]},
    {"model": "demo-base", "prompt": "a fox on the left", "seed": 3, "steps": 12, "guidance": 2.0},
    {"model": "demo-base", "prompt": "a fox on the left", "seed": 3, "steps": 12, "guidance": 2.0, "negative_prompt": "a purple background"},
    {"model": "demo-base", "prompt": "change the background to teal", "seed": 4, "steps": 12, "guidance": 2.0, "references": ["1.png"]},
]


def load(name):
    """The pipeline of a demo model. klein rounds the sum of weight and difference to bfloat16, as such weights are published."""
    if name == "demo-kv":
        return diffusers.Flux2KleinKVPipeline.from_pretrained(ROOT / "models" / name, torch_dtype=torch.float32)
    pipeline = compare_diffusers.load(diffusers, ROOT / "models" / name, torch_dtype=torch.float32)
    if name == "demo-base":
        pipeline.transformer.to(torch.bfloat16).to(torch.float32)
    return pipeline


def main():
    index = json.loads((ROOT / "models/demo/model_index.json").read_text())
    options = {"max_sequence_length": index["max_sequence_length"], "text_encoder_out_layers": tuple(index["text_encoder_out_layers"])}
    OUT.mkdir(parents=True, exist_ok=True)
    pipelines = {}
    for number, case in enumerate(CASES):
        name = case.get("model", "demo")
        if name not in pipelines:
            pipelines[name] = load(name)
        pipeline = pipelines[name]
        references = [Image.open(OUT / file).convert("RGB") for file in case.get("references", [])]
        guided = {}
        if name != "demo-kv":
            guided["guidance_scale"] = case.get("guidance", 1.0)
        if "negative_prompt" in case:
            guided["negative_prompt_embeds"] = pipeline.encode_prompt(prompt=case["negative_prompt"], **options)[0]
        picture = pipeline(
            prompt=case["prompt"], image=references or None, height=case.get("height", 256), width=case.get("width", 256),
            num_inference_steps=case.get("steps", 4), generator=torch.Generator("cpu").manual_seed(case["seed"]),
            **options, **guided).images[0]
        case["picture"] = f"{number}.png"
        picture.save(OUT / case["picture"], optimize=True)
    (OUT / "cases.json").write_text(json.dumps(CASES, indent=1) + "\n")


if __name__ == "__main__":
    main()
