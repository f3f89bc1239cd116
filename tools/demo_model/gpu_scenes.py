"""Batches of scenes as arrays, and their rendering with torch."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from edits import picture_row, random_edit
from scenes import CANVAS, SIZES, load_subjects
from sprites import GROWTH, LEAN, PALETTE, PIVOT, SHADES
from tokens import MAX_TOKENS, PAD, TEMPLATE


def build_tasks(count: int, references: int, canvas: tuple[int, int], wordings: int, seed: int, tokenizer_file: Path,
                leave_open: bool = False):
    """Arrays of random training tasks: rows [N, pictures, 12] and steers [N, pictures, 6] of the target and then the references,
    token ids [N, wordings, 64] and lengths [N, wordings]. With `leave_open` captions name only parts of their pictures."""
    from tokenizers import Tokenizer

    tokenizer, subjects, rng = Tokenizer.from_file(str(tokenizer_file)), load_subjects(), random.Random(seed)
    rows = np.zeros((count, references + 1, 12), np.int32)
    steers = np.zeros((count, references + 1, 6), np.float32)
    ids = np.full((count, wordings, MAX_TOKENS), tokenizer.token_to_id(PAD), np.int16)
    lengths = np.zeros((count, wordings), np.int16)
    for i in range(count):
        task = random_edit(rng, len(subjects), subjects, references, canvas, leave_open=leave_open)
        for j, picture in enumerate([task.target, *task.references]):
            rows[i, j], steers[i, j] = picture_row(picture)
        j = 0
        while j < wordings:
            found = tokenizer.encode(TEMPLATE.format(task.word(rng))).ids
            if len(found) <= MAX_TOKENS:
                lengths[i, j] = len(found)
                ids[i, j, :len(found)] = found
                j += 1
    return rows, steers, ids, lengths


def encode_texts(tokenizer, texts: list[str], device):
    """Token ids [B, 64] and lengths [B] of captions."""
    ids = torch.full((len(texts), MAX_TOKENS), tokenizer.token_to_id(PAD), dtype=torch.long)
    lengths = torch.zeros(len(texts), dtype=torch.long)
    for i, encoding in enumerate(tokenizer.encode_batch([TEMPLATE.format(t) for t in texts])):
        lengths[i] = min(len(encoding.ids), MAX_TOKENS)
        ids[i, :lengths[i]] = torch.tensor(encoding.ids[:MAX_TOKENS])
    return ids.to(device), lengths.to(device)


class Renderer:
    """Draws scenes with torch; the same pixels as sprites.PlainRenderer."""

    def __init__(self, atlas: dict[str, np.ndarray], device):
        self.device = device
        sides = [side for side, _ in SIZES.values()]
        self.sides, self.texture = torch.tensor(sides, dtype=torch.float32, device=device), max(sides)
        count = len(next(iter(atlas.values())))
        # one texture per size and subject, the sprite in the top left corner and nothing around it: no grouping by size is needed
        self.atlas = torch.zeros(len(SIZES), count, 4, self.texture, self.texture, dtype=torch.uint8)
        for level, (name, side) in enumerate(zip(SIZES, sides)):
            self.atlas[level, :, :, :side, :side] = torch.from_numpy(atlas[name]).permute(0, 3, 1, 2)
        self.atlas = self.atlas.to(device)
        self.palette = torch.from_numpy(PALETTE / 255).to(device)
        self.shades = torch.tensor(SHADES, device=device)

    def background(self, kind, first, second, canvas):
        """kind [B] (index into BACKGROUNDS), colours [B, 3] in 0..1, canvas (width, height) -> [B, 3, height, width]."""
        across, down = (torch.linspace(0, 1, edge, device=self.device) for edge in canvas)
        weight = torch.zeros(len(kind), 1, len(down), len(across), device=self.device)
        weight = torch.where((kind == 1)[:, None, None, None], down.view(1, 1, -1, 1), weight)
        weight = torch.where((kind == 2)[:, None, None, None], (across > 0.5).float().view(1, 1, 1, -1), weight)
        return first[:, :, None, None] * (1 - weight) + second[:, :, None, None] * weight

    def stamp(self, picture, sprites, own, side, x, y, angle, flip, absent):
        """Draw sprites [B, 4, texture, texture] of `own` pixels, scaled to `side`, tilted, mirrored (flip -1), their middles at
        x, y pixels from the picture's; none where `absent`."""
        height, width = picture.shape[2:]
        # from the canvas to the sprite's own -1..1, and from there to the texture's, whose top left part the sprite fills
        part = own / self.texture
        scale, shift = part / side, part - 1
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack([scale * width * cos * flip, -scale * height * sin * flip,
                             -scale * flip * 2 * (cos * x - sin * y) + shift + absent * 10.0,
                             scale * width * sin, scale * height * cos, -scale * 2 * (sin * x + cos * y) + shift], 1)
        grid = F.affine_grid(theta.view(-1, 2, 3), (len(theta), 4, height, width), align_corners=False)
        layer = F.grid_sample(sprites.float() / 255, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return picture * (1 - layer[:, 3:]) + layer[:, :3]

    @torch.no_grad()
    def scenes(self, rows, steers=None, canvas=(CANVAS, CANVAS)):
        """rows [B, 12] and steers [B, 6] as `picture_row` makes them -> pictures [B, 3, height, width] in -1..1.

        Without steers backgrounds have their plain shade and sprites stand upright, exactly at their places.
        """
        first, second = self.palette[rows[:, 2]], self.palette[rows[:, 3]]
        steers = torch.zeros(len(rows), 6, device=self.device) if steers is None else steers.clamp(-2, 2)
        change = steers[:, :2] @ self.shades
        picture = self.background(rows[:, 1], (first + change).clamp(0, 1), (second + change).clamp(0, 1), canvas)
        for slot in range(2):
            subject, size, left, top = rows[:, 4 + slot * 4:8 + slot * 4].unbind(1)
            tilt, larger = steers[:, 2 + slot * 2] * LEAN, steers[:, 3 + slot * 2] * GROWTH
            own = self.sides[size]
            picture = self.stamp(picture, self.atlas[size, subject], own, own * (1 + larger),
                                 left + own / 2 - canvas[0] / 2 - tilt * PIVOT * own, top + own / 2 - canvas[1] / 2 - larger * PIVOT * own,
                                 tilt, torch.ones_like(own), rows[:, 0] <= slot)
        return picture * 2 - 1

    @torch.no_grad()
    def scatter(self, batch: int, canvas=(CANVAS, CANVAS)):
        """Free compositions for the VAE: 1 to 4 sprites of any scale, tilt and place on any colours."""
        def uniform(*shape, low=0.0, high=1.0):
            return torch.rand(*shape, device=self.device) * (high - low) + low

        def index(count):
            return torch.randint(count, (batch,), device=self.device)

        named = uniform(batch, 1) < 0.5
        colours = [torch.where(named, self.palette[index(len(self.palette))], uniform(batch, 3)) for _ in range(2)]
        picture = self.background(index(3), *colours, canvas)
        for slot in range(4):
            level, flip = index(len(self.sides)), (uniform(batch) < 0.3).float() * -2 + 1
            own = self.sides[level]
            x, y = (uniform(batch, low=-0.45, high=0.45) * edge for edge in canvas)
            picture = self.stamp(picture, self.atlas[level, index(self.atlas.shape[1])], own, own * uniform(batch, low=0.75, high=1.2),
                                 x, y, uniform(batch, low=-0.4, high=0.4), flip, uniform(batch) > 1.0 - 0.25 * slot)
        return picture * 2 - 1
