"""Wordings of scenes. Every caption determines its picture; only the words vary."""

from __future__ import annotations

import random
from dataclasses import replace

from scenes import COLOUR_NAMES, COLOURS, SIZE_NAMES, Scene, Subject

FILLERS = ("cute", "nice", "happy", "lovely", "beautiful", "pretty", "funny", "cool", "simple", "little cute")
PREFIXES = ("a picture of ", "an image of ", "a drawing of ", "an illustration of ", "an emoji of ", "an icon of ",
            "a painting of ", "a photo of ")
SIZE_WORDS = {"small": ("small", "small", "tiny", "little"), "large": ("large", "large", "big", "huge"),
              "medium": ("", "", "", "", "", "", "medium-sized")}
PLACE_WORDS = {
    "center": ("", "", "", "in the center", "in the middle", "at the center"),
    "left": ("on the left", "on the left", "at the left", "on the left side"),
    "right": ("on the right", "on the right", "at the right", "on the right side"),
    "top": ("at the top", "at the top", "on the top"),
    "bottom": ("at the bottom", "at the bottom", "on the bottom"),
    "top left corner": ("in the top left corner", "in the top left corner", "in the upper left corner", "at the top left"),
    "top right corner": ("in the top right corner", "in the top right corner", "in the upper right corner", "at the top right"),
    "bottom left corner": ("in the bottom left corner", "in the bottom left corner", "in the lower left corner", "at the bottom left"),
    "bottom right corner": ("in the bottom right corner", "in the bottom right corner", "in the lower right corner", "at the bottom right"),
}


def colour_word(rng: random.Random, colour: int) -> str:
    name = COLOUR_NAMES[colour]
    others = COLOURS[name][1]
    return rng.choice(others) if others and rng.random() < 0.25 else name


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" and not words.startswith(("ufo", "unicorn")) else "a ") + words


def noun_phrase(rng: random.Random, subject: Subject, size: str = "medium", bare: float = 0.04) -> str:
    """A subject's words ("a small fox", "a pair of glasses", "grapes"); `bare` is the share without an article."""
    name, others = subject.name, subject.others
    plural = subject.plural
    if others and rng.random() < 0.3:
        name, plural = rng.choice(others), False
    words = [rng.choice(SIZE_WORDS[size])] if size in SIZE_WORDS else []
    if rng.random() < 0.07:
        words.append(rng.choice(FILLERS))
    phrase = " ".join([w for w in words if w] + [name])
    if plural or rng.random() < bare:
        return phrase
    return ("the " + phrase) if rng.random() < 0.05 else article(phrase)


def background_phrase(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """The background's words for the end of a caption, and for its beginning (before "with ...")."""
    one, two = colour_word(rng, scene.first), colour_word(rng, scene.second)
    if scene.background == "gradient":
        noun = rng.choice((f"{one} to {two} gradient", f"{one} to {two} gradient", f"gradient from {one} to {two}",
                           f"{one} to {two} gradient background", f"{one} and {two} gradient"))
    elif scene.background == "split":
        noun = rng.choice((f"background split into {one} and {two}", f"half {one}, half {two} background",
                           f"two-tone {one} and {two} background", f"split {one} and {two} background"))
    else:
        noun = rng.choice((f"{one} background",) * 6 + (f"plain {one} background", f"solid {one} background"))
        if rng.random() < 0.1:
            return f"on {one}", article(noun)
    lead = rng.choice(("on", "on", "on", "on", "on", "against", "with", "over"))
    return f"{lead} {article(noun)}", article(noun)


def pair_phrase(rng: random.Random, scene: Scene, subjects: list[Subject], bare: float) -> str:
    one, two = (noun_phrase(rng, subjects[s.subject], "pair", bare) for s in scene.sprites)
    if scene.arrangement == "stack":
        return rng.choice((f"{one} above {two}", f"{one} above {two}", f"{two} below {one}",
                           f"{one} at the top and {two} at the bottom", f"{two} under {one}", f"{one} on top of {two}"))
    return rng.choice((f"{one} and {two}", f"{one} and {two}", f"{one} next to {two}", f"{one} beside {two}",
                       f"{one} on the left and {two} on the right", f"{one} on the left and {two} on the right",
                       f"{one} to the left of {two}", f"{two} to the right of {one}", f"{one} left of {two}"))


def caption(rng: random.Random, scene: Scene, subjects: list[Subject], bare: float = 0.04) -> str:
    """One wording of a scene; `bare` is the share of subjects without an article."""
    if len(scene.sprites) == 2:
        subject, place = pair_phrase(rng, scene, subjects, bare), ""
    else:
        sprite = scene.sprites[0]
        subject = noun_phrase(rng, subjects[sprite.subject], SIZE_NAMES[sprite.size].removeprefix("fitted "), bare)
        place = rng.choice(PLACE_WORDS[scene.place])
    prefix = rng.choice(PREFIXES) if rng.random() < 0.08 else ""
    at = f" {place}" if place else ""
    end, begin = background_phrase(rng, scene)
    if not scene.named_background:
        text = prefix + subject + at
    elif rng.random() < 0.15:
        text = f"{begin} with {subject}{at}"
    elif place and rng.random() < 0.12:
        text = f"{prefix}{subject} {end}, {place}"
    elif rng.random() < 0.35:
        text = f"{prefix}{subject}{at}, {end}"
    else:
        text = f"{prefix}{subject}{at} {end}"
    if rng.random() < 0.25:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.12 else text


def open_caption(rng: random.Random, scene: Scene, subjects: list[Subject], bare: float = 0.04) -> str:
    """A wording for base models: half of them name everything, the others nothing of the background, or it alone."""
    part = rng.random()
    if part < 0.5:
        return caption(rng, replace(scene, named_background=True), subjects, bare)
    if part < 0.8:
        return caption(rng, replace(scene, named_background=False), subjects, bare)
    lead, alone = background_phrase(rng, scene)
    text = rng.choice((alone, alone, alone, f"something {lead}"))
    return text[0].upper() + text[1:] if rng.random() < 0.2 else text
