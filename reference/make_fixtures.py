"""Writes tests/fixtures/: python reference/make_fixtures.py [--only PART ...]

The same versions (requirements.txt) on the same kind of CPU write the same bytes.
"""

import argparse
import importlib
import time

PARTS = {
    "nn": "nn_fixtures",
    "sampling": "sampling_fixtures",
    "random": "random_fixtures",
    "flux2": "flux2_fixtures",
    "qwen3": "qwen3_fixtures",
    "vae": "vae_fixtures",
    "quant": "quant_fixtures",
    "models": "tiny_models",
    "pipeline": "pipeline_fixtures",
    "published_slice": "published_slice",
    "lora": "lora_fixtures",
    "edit": "edit_fixtures",
    "pictures": "picture_fixtures",
}


def main():
    parser = argparse.ArgumentParser(description="Writes the parity fixtures.")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS),
                        help="parts to write, of: " + ", ".join(PARTS))
    for part in parser.parse_args().only:
        start = time.monotonic()
        importlib.import_module(PARTS[part]).make()
        print(f"{part}: {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
