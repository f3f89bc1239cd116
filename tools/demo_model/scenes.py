"""What the demo model's pictures show: subjects, colours, sizes, places, and the scenes made of them.

A scene is fully described by numbers, so that the same scene can be drawn with numpy (evaluation) or on a GPU (training).
All sprites sit at offsets of whole latent tokens (16 pixels) from one another: a subject at two places then has the same
latent tokens at two places, which is what lets a tiny transformer learn it sharply.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CANVAS = 256

#: canvases (width, height) that the model is for; every side is a multiple of 64, which keeps sprites in step with latent tokens
CANVASES = ((256, 256), (256, 384), (320, 192), (384, 256), (192, 320))

#: name -> (sRGB value, other words for it)
COLOURS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "red": ((214, 48, 49), ()),
    "orange": ((240, 147, 43), ()),
    "yellow": ((249, 220, 92), ()),
    "green": ((88, 177, 98), ()),
    "mint": ((170, 235, 200), ("light green",)),
    "teal": ((40, 150, 150), ()),
    "sky blue": ((135, 206, 250), ("light blue",)),
    "blue": ((52, 110, 219), ()),
    "navy": ((28, 44, 92), ("dark blue", "navy blue")),
    "purple": ((130, 80, 190), ("violet",)),
    "lavender": ((203, 184, 240), ("light purple",)),
    "pink": ((250, 160, 195), ()),
    "brown": ((121, 85, 61), ()),
    "cream": ((245, 232, 200), ("beige",)),
    "white": ((250, 250, 250), ()),
    "gray": ((140, 144, 150), ("grey",)),
    "black": ((24, 24, 28), ()),
}
COLOUR_NAMES = list(COLOURS)
DEFAULT_COLOUR = COLOUR_NAMES.index("white")

#: size name -> (sprite side in pixels, distance to the edge at a side place); the last two stand in where a side is too short
SIZES = {"small": (96, 16), "medium": (144, 8), "large": (208, 8), "pair": (112, 8), "fitted large": (176, 8), "fitted pair": (80, 8)}
SIZE_NAMES = list(SIZES)

#: place name -> (column, row) in -1..1
PLACES = {
    "center": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1),
    "top left corner": (-1, -1), "top right corner": (1, -1),
    "bottom left corner": (-1, 1), "bottom right corner": (1, 1),
}
PLACE_NAMES = list(PLACES)
BACKGROUNDS = ("plain", "gradient", "split")


@dataclass(frozen=True)
class Subject:
    """One thing that captions may ask for. `plural` names take no article."""

    codepoint: int
    name: str
    others: tuple[str, ...]
    plural: bool


@dataclass
class Sprite:
    """A subject (index) of a size (index into SIZE_NAMES) with its top left pixel."""

    subject: int
    size: int
    left: int
    top: int

    @property
    def side(self) -> int:
        return SIZES[SIZE_NAMES[self.size]][0]


@dataclass
class Scene:
    """One picture: one or two sprites on a background of one or two colours (indices)."""

    sprites: list[Sprite]
    background: str = "plain"
    first: int = DEFAULT_COLOUR
    second: int = DEFAULT_COLOUR
    place: str = "center"
    arrangement: str = ""
    named_background: bool = field(default=True)
    canvas: tuple[int, int] = (CANVAS, CANVAS)


def load_subjects(path: Path = HERE / "subjects.tsv") -> list[Subject]:
    """Read the table of subjects."""
    subjects = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        code, name, others, plural = line.split("\t")
        subjects.append(Subject(int(code, 16), name, tuple(o for o in others.split(",") if o), plural == "1"))
    return subjects


def place_sprite(subject: int, size: str, column: int, row: int, canvas: tuple[int, int] = (CANVAS, CANVAS)) -> Sprite:
    """The sprite of a subject at a column and row in -1..1."""
    side, margin = SIZES[size]
    left, top = ((edge - side) // 2 + where * ((edge - side) // 2 - margin) for edge, where in zip(canvas, (column, row)))
    return Sprite(subject, SIZE_NAMES.index(size), left, top)


def is_held_out(subject: int, size: str, place: str, colour: int) -> bool:
    """Whether a combination is kept for evaluation (about 1 in 20)."""
    return (subject * 31 + SIZE_NAMES.index(size) * 3 + PLACE_NAMES.index(place) * 7 + colour * 17) % 20 == 0


def single_scene(subject: int, size: str, place: str, background: str, first: int, second: int,
                 canvas: tuple[int, int] = (CANVAS, CANVAS)) -> Scene:
    """A scene with one subject."""
    fitted = "fitted large" if size == "large" and min(canvas) < CANVAS else size
    return Scene([place_sprite(subject, fitted, *PLACES[place], canvas)], background, first, second, place, canvas=canvas)


def pair_scene(subject: int, other: int, arrangement: str, background: str, first: int, second: int,
               canvas: tuple[int, int] = (CANVAS, CANVAS)) -> Scene:
    """A scene with two subjects: `arrangement` is "side" (subject left, other right) or "stack" (subject above other)."""
    step = (1, 0) if arrangement == "side" else (0, 1)
    size = "fitted pair" if canvas[step[1]] < CANVAS else "pair"
    sprites = [place_sprite(subject, size, -step[0], -step[1], canvas), place_sprite(other, size, *step, canvas)]
    return Scene(sprites, background, first, second, arrangement=arrangement, canvas=canvas)


def random_scene(rng: random.Random, count: int, held_out: bool = False, pairs: float = 0.27,
                 canvas: tuple[int, int] = (CANVAS, CANVAS)) -> Scene:
    """Draw a scene; single-subject scenes respect the split between training and held-out combinations."""
    background = rng.choices(BACKGROUNDS, (0.6, 0.2, 0.2))[0]
    first, second = rng.sample(range(len(COLOURS)), 2)
    named = True
    if background == "plain" and rng.random() < 0.12:
        first, named = DEFAULT_COLOUR, False
    if rng.random() < pairs:
        scene = pair_scene(rng.randrange(count), rng.randrange(count), rng.choice(("side", "side", "stack")),
                           background, first, second, canvas)
        scene.named_background = named
        return scene
    while True:
        subject = rng.randrange(count)
        size = rng.choices(("small", "medium", "large"), (0.25, 0.5, 0.25))[0]
        place = "center" if rng.random() < 0.3 else rng.choice(PLACE_NAMES[1:])
        if is_held_out(subject, size, place, first) == held_out:
            break
        first = rng.choice([c for c in range(len(COLOURS)) if c != second]) if named else first
    scene = single_scene(subject, size, place, background, first, second, canvas)
    scene.named_background = named
    return scene
