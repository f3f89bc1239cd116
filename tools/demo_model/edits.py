"""Pictures with their poses, and edits: references, an instruction in several wordings, and the exact picture that it asks for.

What comes from a reference keeps its place, shade, lean and size unless the instruction says otherwise; what comes from the words
alone (a new background, a new subject) has the plain shade and stands upright. Nothing in an edit follows from the noise.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Callable

from captions import caption, colour_word, noun_phrase, open_caption
from scenes import (BACKGROUNDS, CANVAS, COLOURS, PLACE_NAMES, PLACES, SIZE_NAMES, Scene, Sprite, Subject,
                    pair_scene, place_sprite, random_scene, single_scene)

UPRIGHT = (0.0, 0.0)
KINDS = {"background": 0.32, "replace": 0.18, "move": 0.12, "resize": 0.14, "add": 0.11, "remove": 0.08, "both": 0.05}
KINDS_OF_TWO = {"beside": 0.36, "stack": 0.14, "onto": 0.32, "exchange": 0.18}


@dataclass
class Picture:
    """A scene, its background's shade, and a pose (lean, growth) for each of its sprites, all in standard deviations."""

    scene: Scene
    shade: tuple[float, float] = UPRIGHT
    poses: tuple[tuple[float, float], ...] = (UPRIGHT, UPRIGHT)

    def pose(self, slot: int) -> tuple[float, float]:
        return self.poses[slot] if slot < len(self.poses) else UPRIGHT


def picture_row(picture: Picture) -> tuple[list[int], list[float]]:
    """count, background, first, second, then subject, size, left, top for two sprites; and shade, then lean, growth for two sprites."""
    scene = picture.scene
    row = [len(scene.sprites), BACKGROUNDS.index(scene.background), scene.first, scene.second]
    for s in (scene.sprites * 2 + [Sprite(0, 0, 0, 0)] * 2)[:2]:
        row += [s.subject, s.size, s.left, s.top]
    return row, [*picture.shade, *picture.pose(0), *picture.pose(1)]


@dataclass
class Edit:
    """References, the picture asked for, and its wordings; text to image is an edit without references."""

    kind: str
    references: list[Picture]
    target: Picture
    word: Callable[[random.Random], str]

    @property
    def held_out(self) -> bool:
        """Whether the combination of kind, subjects, places and colours is kept for evaluation (about 1 in 20)."""
        key = sum(s.subject * 31 + s.size * 3 + (s.left * 3 + s.top) // 16 for s in self.target.scene.sprites)
        return (key + self.target.scene.first * 17 + len(self.kind)) % 20 == 0


def steering_spread(canvas: tuple[int, int]) -> float:
    """Standard deviation of shades and poses: the mean of a noise channel varies less where there are more tokens."""
    return (CANVAS * CANVAS / (canvas[0] * canvas[1])) ** 0.5


def posed(rng: random.Random, scene: Scene) -> Picture:
    """The scene with a shade and one pose for all sprites, as a seed would choose them."""
    spread = steering_spread(scene.canvas)
    values = [rng.gauss(0, spread) for _ in range(4)]
    return Picture(scene, (values[0], values[1]), ((values[2], values[3]),) * 2)


def finish(rng: random.Random, text: str) -> str:
    if rng.random() < 0.04:
        text = "please " + text
    if rng.random() < 0.35:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.15 else text


def bare_name(rng: random.Random, subject: Subject) -> str:
    return rng.choice(subject.others) if subject.others and rng.random() < 0.25 else subject.name


def the(rng: random.Random, subjects: list[Subject], sprites: list[Sprite], slot: int = 0) -> str:
    """Words for a sprite of a reference."""
    if len(sprites) == 1 and rng.random() < 0.4:
        return rng.choice(("it", "it", "it", "the subject"))
    return "the " + bare_name(rng, subjects[sprites[slot].subject])


def background_noun(rng: random.Random, scene: Scene) -> str:
    one, two = colour_word(rng, scene.first), colour_word(rng, scene.second)
    if scene.background == "gradient":
        return rng.choice((f"{one} to {two} gradient", f"{one} to {two} gradient", f"gradient from {one} to {two}"))
    if scene.background == "split":
        return rng.choice((f"background split into {one} and {two}", f"half {one}, half {two} background",
                           f"two-tone {one} and {two} background"))
    return rng.choice((f"{one} background", f"{one} background", f"plain {one} background", f"solid {one} background"))


def an(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def background_words(rng: random.Random, scene: Scene, who: str) -> str:
    noun = background_noun(rng, scene)
    if scene.background == "plain" and rng.random() < 0.55:
        colour = colour_word(rng, scene.first)
        return rng.choice((f"change the background to {colour}", f"change the background to {colour}", f"make the background {colour}",
                           f"make the background {colour}", f"turn the background {colour}", f"set the background to {colour}",
                           f"change the background colour to {colour}", f"change the background color to {colour}",
                           f"paint the background {colour}", f"{colour} background instead"))
    return rng.choice((f"put {who} on {an(noun)}", f"put {who} on {an(noun)}", f"place {who} on {an(noun)}", f"use {an(noun)}",
                       f"change the background to {an(noun)}", f"replace the background with {an(noun)}", f"give {who} {an(noun)}", noun))


def replace_words(rng: random.Random, old: str, new: str) -> str:
    return rng.choice((f"replace {old} with {new}", f"replace {old} with {new}", f"replace {old} by {new}", f"turn {old} into {new}",
                       f"turn {old} into {new}", f"change {old} into {new}", f"change {old} to {new}", f"swap {old} for {new}",
                       f"make {old} {new}", f"{new} instead of {old}"))


def move_words(rng: random.Random, who: str, place: str) -> str:
    if place == "center":
        where = rng.choice(("to the center", "to the center", "to the middle", "into the center", "in the center", "in the middle"))
    elif place in ("left", "right"):
        where = rng.choice((f"to the {place}", f"to the {place}", f"to the {place} side", f"on the {place}", f"to the far {place}"))
    elif place in ("top", "bottom"):
        where = rng.choice((f"to the {place}", f"to the {place}", f"at the {place}") + (("up",) if place == "top" else ("down",)))
    else:
        short = place.removesuffix(" corner")
        other = short.replace("top", "upper").replace("bottom", "lower")
        where = rng.choice((f"to the {place}", f"to the {place}", f"into the {place}", f"in the {place}", f"to the {short}",
                            f"to the {other} corner"))
    verb = "move" if where in ("up", "down") else rng.choice(("move", "move", "move", "put", "place", "shift"))
    return f"{verb} {who} {where}"


def resize_words(rng: random.Random, who: str, old: str, new: str) -> str:
    options = {"small": [f"make {who} small", f"make {who} tiny", f"shrink {who} to a small size", f"draw {who} small"],
               "medium": [f"make {who} medium-sized", f"make {who} medium-sized"],
               "large": [f"make {who} large", f"make {who} huge", f"make {who} very big", f"draw {who} large"]}[new]
    order = ("small", "medium", "large")
    step = order.index(new) - order.index(old)
    if step == 1:
        options += [f"make {who} bigger", f"make {who} bigger", f"make {who} larger", f"enlarge {who}", f"scale {who} up"] * 2
    elif step == -1:
        options += [f"make {who} smaller", f"make {who} smaller", f"shrink {who}", f"scale {who} down"] * 2
    elif step == 2:
        options += [f"make {who} much bigger", f"make {who} much larger"] * 2
    else:
        options += [f"make {who} much smaller"] * 4
    return rng.choice(options)


def any_background(rng: random.Random) -> tuple[str, int, int]:
    first, second = rng.sample(range(len(COLOURS)), 2)
    return rng.choices(BACKGROUNDS, (0.72, 0.14, 0.14))[0], first, second


def single(rng: random.Random, count: int, canvas, sizes=("small", "medium", "medium", "large"), places=None) -> Scene:
    place = rng.choice(places) if places else ("center" if rng.random() < 0.45 else rng.choice(PLACE_NAMES[1:]))
    return single_scene(rng.randrange(count), rng.choice(sizes), place, *any_background(rng), canvas)


def pair(rng: random.Random, count: int, canvas) -> Scene:
    one, two = rng.sample(range(count), 2)
    return pair_scene(one, two, rng.choice(("side", "side", "stack")), *any_background(rng), canvas)


def size_of(sprite: Sprite) -> str:
    return SIZE_NAMES[sprite.size].removeprefix("fitted ")


def make_background(rng: random.Random, count: int, subjects, canvas) -> Edit:
    old = posed(rng, pair(rng, count, canvas) if rng.random() < 0.25 else single(rng, count, canvas))
    while True:
        kind, first, second = any_background(rng)
        if (kind, first) != (old.scene.background, old.scene.first):
            break
    new = replace(old.scene, background=kind, first=first, second=second, named_background=True)

    def word(rng):
        if rng.random() < 0.08:
            return caption(rng, new, subjects)
        who = the(rng, subjects, new.sprites) if len(new.sprites) == 1 else rng.choice(("them", "it", "both"))
        return finish(rng, background_words(rng, new, who))

    return Edit("background", [old], Picture(new, UPRIGHT, old.poses), word)


def make_replace(rng: random.Random, count: int, subjects, canvas, recolour: bool = False) -> Edit:
    old = posed(rng, pair(rng, count, canvas) if rng.random() < 0.2 and not recolour else single(rng, count, canvas))
    sprites = list(old.scene.sprites)
    slot = rng.randrange(len(sprites))
    fresh = rng.choice([s for s in (rng.randrange(count) for _ in range(4)) if s not in [x.subject for x in sprites]] or [0])
    sprites[slot] = replace(sprites[slot], subject=fresh)
    new, shade = replace(old.scene, sprites=sprites), old.shade
    if recolour:
        first = rng.choice([c for c in range(len(COLOURS)) if c != old.scene.first])
        new, shade = replace(new, background="plain", first=first), UPRIGHT
    poses = tuple(UPRIGHT if i == slot else old.pose(i) for i in range(2))

    def word(rng):
        if rng.random() < 0.08:
            return caption(rng, new, subjects)
        who = the(rng, subjects, old.scene.sprites, slot)
        text = replace_words(rng, who, noun_phrase(rng, subjects[fresh], "", 0.06))
        if recolour:
            one = colour_word(rng, new.first)
            end = rng.choice((f"make the background {one}", f"change the background to {one}"))
            text = rng.choice((f"{text} and {end}", f"{end} and {text}", f"{text} on {an(one)} background"))
        return finish(rng, text)

    return Edit("both" if recolour else "replace", [old], Picture(new, shade, poses), word)


def make_both(rng, count, subjects, canvas) -> Edit:
    return make_replace(rng, count, subjects, canvas, recolour=True)


def make_move(rng: random.Random, count: int, subjects, canvas) -> Edit:
    old = posed(rng, single(rng, count, canvas, ("small", "small", "medium", "medium", "medium", "large")))
    sprite = old.scene.sprites[0]
    place = rng.choice([p for p in PLACE_NAMES if p != old.scene.place])
    moved = place_sprite(sprite.subject, SIZE_NAMES[sprite.size], *PLACES[place], canvas)
    new = replace(old.scene, sprites=[moved], place=place)
    return Edit("move", [old], Picture(new, old.shade, old.poses),
                lambda rng: finish(rng, move_words(rng, the(rng, subjects, old.scene.sprites), place)))


def make_resize(rng: random.Random, count: int, subjects, canvas) -> Edit:
    size, other = rng.choice((("small", "medium"), ("small", "large"), ("medium", "large"), ("medium", "small"), ("large", "medium"),
                              ("large", "small"), ("medium", "large"), ("medium", "small")))
    old = posed(rng, single(rng, count, canvas, (size,)))
    scene = old.scene
    new = single_scene(scene.sprites[0].subject, other, scene.place, scene.background, scene.first, scene.second, canvas)
    return Edit("resize", [old], Picture(new, old.shade, old.poses),
                lambda rng: finish(rng, resize_words(rng, the(rng, subjects, scene.sprites), size, other)))


def overlap(one: Sprite, two: Sprite) -> float:
    """Shared area as a share of the second sprite's square."""
    across = min(one.left + one.side, two.left + two.side) - max(one.left, two.left)
    down = min(one.top + one.side, two.top + two.side) - max(one.top, two.top)
    return max(0, across) * max(0, down) / two.side**2


def opposite(place: str) -> str:
    """Where a second subject goes when nothing is said about it."""
    if place == "center":
        return "bottom right corner"
    column, row = PLACES[place]
    return next(n for n, p in PLACES.items() if p == (-column, -row))


def with_second(rng: random.Random, count: int, canvas) -> tuple[Scene, Scene, str]:
    """A scene of one subject, the same with a second one, and the second one's place."""
    while True:
        if rng.random() < 0.4:
            both = pair(rng, count, canvas)
            slot = rng.randrange(2)
            steps = ("left", "right") if both.arrangement == "side" else ("top", "bottom")
            first, second, place = both.sprites[1 - slot], both.sprites[slot], steps[slot]
            scene = replace(both, sprites=[first], place=steps[1 - slot], arrangement="")
        else:
            scene = single(rng, count, canvas, ("small", "medium", "medium"))
            first = scene.sprites[0]
            place = opposite(scene.place) if rng.random() < 0.6 else rng.choice(PLACE_NAMES)
            second = place_sprite(rng.randrange(count), "small", *PLACES[place], canvas)
        if first.subject != second.subject and overlap(first, second) < 0.4:
            return scene, replace(scene, sprites=[first, second], arrangement=""), place


def make_add(rng: random.Random, count: int, subjects, canvas) -> Edit:
    scene, new, place = with_second(rng, count, canvas)
    old = posed(rng, scene)

    def word(rng):
        who = noun_phrase(rng, subjects[new.sprites[1].subject], "small" if size_of(new.sprites[1]) == "small" and rng.random() < 0.3 else "", 0.06)
        verb, where = rng.choice(("add", "add", "add", "put", "draw")), ""
        if place != opposite(scene.place) or rng.random() < 0.5:
            at = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
                  "center": "in the center"}.get(place, f"in the {place}")
            where = " " + at
            if place == opposite(scene.place) and place in ("left", "right", "top", "bottom") and rng.random() < 0.4:
                side = {"left": "to the left of", "right": "to the right of", "top": "above", "bottom": "below"}[place]
                where = f" {side} {the(rng, subjects, scene.sprites)}"
        elif rng.random() < 0.25:
            where = f" next to {the(rng, subjects, scene.sprites)}"
        elif verb == "put":
            verb = "add"
        return finish(rng, f"{verb} {who}{where}")

    return Edit("add", [old], Picture(new, old.shade, (old.pose(0), UPRIGHT)), word)


def make_remove(rng: random.Random, count: int, subjects, canvas) -> Edit:
    alone = rng.random() < 0.12
    if alone:
        scene = single(rng, count, canvas)
    else:
        scene = pair(rng, count, canvas) if rng.random() < 0.6 else with_second(rng, count, canvas)[1]
    old, slot = posed(rng, scene), rng.randrange(len(scene.sprites))
    new = replace(scene, sprites=[s for i, s in enumerate(scene.sprites) if i != slot], arrangement="")
    poses = tuple(old.pose(i) for i in range(2) if i != slot)

    def word(rng):
        who = the(rng, subjects, scene.sprites, slot)
        if scene.arrangement == "side" and rng.random() < 0.12:
            who = "the subject on the " + ("left", "right")[slot]
        return finish(rng, rng.choice((f"remove {who}", f"remove {who}", f"remove {who}", f"delete {who}", f"erase {who}",
                                       f"take {who} away", f"get rid of {who}")))

    return Edit("remove", [old], Picture(new, old.shade, poses), word)


def names_of_two(rng: random.Random) -> tuple[str, str]:
    return rng.choice((("image 1", "image 2"),) * 5 + (("the first image", "the second image"), ("picture 1", "picture 2")))


def subject_of(rng: random.Random, subjects, scene: Scene, image: str) -> str:
    if rng.random() < 0.5:
        return f"the subject {rng.choice(('of', 'of', 'from'))} {image}"
    return f"the {bare_name(rng, subjects[scene.sprites[0].subject])} {rng.choice(('of', 'of', 'from'))} {image}"


def make_together(rng: random.Random, count: int, subjects, canvas, kind: str) -> Edit:
    """Two references side by side or one above the other, on the first one's background."""
    old = [posed(rng, single(rng, count, canvas)) for _ in range(2)]
    turned = rng.random() < 0.3
    one, two = old[::-1] if turned else old
    ground = old[0]
    new = pair_scene(one.scene.sprites[0].subject, two.scene.sprites[0].subject, "side" if kind == "beside" else "stack",
                     ground.scene.background, ground.scene.first, ground.scene.second, canvas)
    shade, coloured = ground.shade, rng.random() < 0.12
    if coloured:
        new, shade = replace(new, background="plain", first=rng.randrange(len(COLOURS))), UPRIGHT

    def word(rng):
        images = names_of_two(rng)
        a, b = images[::-1] if turned else images
        if rng.random() < 0.4:
            a, b = subject_of(rng, subjects, one.scene, a), subject_of(rng, subjects, two.scene, b)
        verb = rng.choice(("put", "put", "place"))
        if kind == "stack":
            options = [f"{verb} {a} above {b}", f"{verb} {a} above {b}", f"{verb} {b} below {a}", f"{verb} {a} on top of {b}",
                       f"{a} above {b}", f"{a} at the top and {b} at the bottom"]
        else:
            options = [f"{verb} {a} left of {b}", f"{verb} {a} left of {b}", f"{verb} {a} to the left of {b}", f"{a} left of {b}",
                       f"{verb} {b} to the right of {a}", f"{verb} {b} right of {a}", f"{a} on the left and {b} on the right"]
            if not turned:
                options += [f"{verb} {a} and {b} side by side", f"{verb} {a} next to {b}", f"{a} and {b}", f"{a} next to {b}"]
        text = rng.choice(options)
        return finish(rng, text + (f" on {an(background_noun(rng, new))}" if coloured else ""))

    return Edit(kind, old, Picture(new, shade, (one.pose(0), two.pose(0))), word)


def make_beside(rng, count, subjects, canvas) -> Edit:
    return make_together(rng, count, subjects, canvas, "beside")


def make_stack(rng, count, subjects, canvas) -> Edit:
    return make_together(rng, count, subjects, canvas, "stack")


def make_onto(rng: random.Random, count: int, subjects, canvas) -> Edit:
    """The subject of one reference, where it is, on the background of the other."""
    figure = posed(rng, single(rng, count, canvas))
    behind = posed(rng, pair(rng, count, canvas) if rng.random() < 0.15 else single(rng, count, canvas))
    if rng.random() < 0.1:
        behind.scene.sprites = []
    back = behind.scene
    new = replace(figure.scene, background=back.background, first=back.first, second=back.second)
    turned = rng.random() < 0.4

    def word(rng):
        images = names_of_two(rng)
        a, b = images[::-1] if turned else images
        who = subject_of(rng, subjects, figure.scene, a)
        verb = rng.choice(("put", "put", "place"))
        return finish(rng, rng.choice((f"{who} on the background of {b}", f"{who} on the background of {b}",
                                       f"{verb} {who} on the background of {b}", f"{verb} {who} on the background of {b}",
                                       f"{verb} {a} on the background of {b}", f"use the background of {b} for {a}",
                                       f"{a} with the background of {b}", f"give {a} the background of {b}",
                                       f"change the background of {a} to the background of {b}")))

    return Edit("onto", [behind, figure] if turned else [figure, behind], Picture(new, behind.shade, figure.poses), word)


def make_exchange(rng: random.Random, count: int, subjects, canvas) -> Edit:
    """The second reference's subject at the place and in the size of the first one's."""
    old, other = posed(rng, single(rng, count, canvas)), posed(rng, single(rng, count, canvas))
    new = replace(old.scene, sprites=[replace(old.scene.sprites[0], subject=other.scene.sprites[0].subject)])

    def word(rng):
        a, b = names_of_two(rng)
        one, two = subject_of(rng, subjects, old.scene, a), subject_of(rng, subjects, other.scene, b)
        return finish(rng, rng.choice((f"replace {one} with {two}", f"replace {one} with {two}", f"replace {one} by {two}",
                                       f"swap {one} for {two}", f"put {two} in place of {one}")))

    return Edit("exchange", [old, other], Picture(new, old.shade, (other.pose(0), UPRIGHT)), word)


MAKERS = {"background": make_background, "replace": make_replace, "move": make_move, "resize": make_resize, "add": make_add,
          "remove": make_remove, "both": make_both, "beside": make_beside, "stack": make_stack, "onto": make_onto,
          "exchange": make_exchange}


def random_edit(rng: random.Random, count: int, subjects: list[Subject], references: int, canvas=(CANVAS, CANVAS),
                held_out: bool = False, kind: str = "", bare: float = 0.1, leave_open: bool = False) -> Edit:
    """A text to image task (no references) or an edit, from the training or from the held-out combinations.

    `leave_open` is for base models: a caption may then name only a part of what its picture shows.
    """
    if not references:
        scene = random_scene(rng, count, held_out, canvas=canvas)
        if leave_open:
            return Edit("draw", [], posed(rng, scene), lambda rng: open_caption(rng, scene, subjects, bare))
        return Edit("draw", [], posed(rng, scene), lambda rng: caption(rng, scene, subjects, bare))
    kinds = KINDS if references == 1 else KINDS_OF_TWO
    while True:
        chosen = kind or rng.choices(list(kinds), list(kinds.values()))[0]
        edit = MAKERS[chosen](rng, count, subjects, canvas)
        if edit.held_out == held_out:
            return edit
