"""Draw and encode training tasks in a process of its own, chunk by chunk, so that training starts with the first of them.

A stream is a kind of task on one canvas: NAME is WIDTHxHEIGHT+REFERENCES, as in 256x256+1. Chunks are files in a folder (best in memory,
such as /dev/shm), which the training process deletes once it has read them.
"""

from __future__ import annotations

import argparse
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import load_file

from gpu_scenes import Renderer, build_tasks
from networks import make_vae, pack
from scenes import load_subjects
from sprites import build_atlas, load_glyphs


def parse_stream(name: str) -> tuple[tuple[int, int], int]:
    """Canvas (width, height) and number of references."""
    size, references = name.split("+")
    width, height = size.split("x")
    return (int(width), int(height)), int(references)


def load_vae(path: Path, device):
    vae = make_vae()
    vae.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in load_file(path).items()})
    return vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


class Encoder:
    """Pictures [B, 3, height, width] in -1..1 to normalized tokens [B, height/16 * width/16, 128] and back."""

    def __init__(self, vae, device):
        self.vae, self.device = vae, device
        self.mean, self.spread = vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    @torch.no_grad()
    def encode(self, pictures):
        with self.autocast():
            latent = self.vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist.mean.float()
        return (pack(latent) - self.mean) / self.spread

    @torch.no_grad()
    def decode(self, tokens, height: int, width: int):
        from networks import unpack

        with self.autocast():
            return self.vae.decode(unpack(tokens * self.spread + self.mean, height, width)).sample.float().clamp(-1, 1)


def _job(job):
    name, chunk, arguments = job
    return name, chunk, build_tasks(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", nargs="+", required=True, help="NAME:PICTURES for every stream")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--wordings", type=int, default=3)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--open", action="store_true", help="captions that leave something open, for a base model")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    began = time.time()
    jobs = []
    for number, stream in enumerate(args.streams):
        name, count = stream.rsplit(":", 1)
        canvas, references = parse_stream(name)
        chunks = -(-int(count) // args.chunk)
        jobs += [((index + 0.5) / chunks, name, index, (args.chunk, references, canvas, args.wordings,
                                                       (args.seed * 100 + number) * 1000 + index, args.tokenizer, args.open))
                 for index in range(chunks)]
    jobs.sort(key=lambda j: j[0])
    args.folder.mkdir(parents=True, exist_ok=True)
    with get_context("fork").Pool(args.workers) as pool:
        built = pool.imap(_job, [j[1:] for j in jobs])
        device = torch.device(args.device)
        torch.backends.cudnn.benchmark = True
        renderer = Renderer(build_atlas(load_glyphs(load_subjects())), device)
        encoder, pictures = Encoder(load_vae(args.vae, device), device), 0
        for name, chunk, (rows, steers, ids, lengths) in built:
            canvas, _ = parse_stream(name)
            flat, bent = torch.from_numpy(rows).long().flatten(0, 1), torch.from_numpy(steers).flatten(0, 1)
            tokens = torch.cat([encoder.encode(renderer.scenes(r.to(device), s.to(device), canvas)).bfloat16()
                                for r, s in zip(flat.split(128), bent.split(128))])
            part = args.folder / f"{name}_{chunk}.part"
            torch.save({"tokens": tokens.unflatten(0, rows.shape[:2]).cpu(), "steering": torch.from_numpy(steers[:, 0, :4].copy()),
                        "ids": torch.from_numpy(ids), "lengths": torch.from_numpy(lengths)}, part)
            part.rename(part.with_suffix(".pt"))
            pictures += len(flat)
    print(f"{args.folder.name}: {pictures} pictures encoded in {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
