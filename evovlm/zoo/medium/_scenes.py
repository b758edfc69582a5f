"""The medium zoo's scenes: crowded, overlapping, with written cards and Japanese things. In two languages.

Knows words and layouts; asks nothing (see `questions`), draws nothing (see `render`), knows no tokenizer and no model.

A Japanese thing has a name only in Japanese. English, and Japanese that does not know the name, describe its looks
("red gate", 赤い門). Splits depend on content (what is where, not the jitter), as in the small zoo.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.scenes import CELL_NAMES, CELLS, COLOURS, SHAPES, Language, Style
from evovlm.zoo.splits import Split, split_of

CARD = "card"
WORDS = (
    *("ACE", "ANT", "BEE", "BUS", "CAT", "COW", "CUP", "DOG", "EGG", "FAN", "FOX", "HAT", "HEN", "ICE", "INK", "JAM"),
    *("KEY", "LOG", "MAP", "NUT", "OAK", "OWL", "PEN", "PIG", "RAT", "SEA", "SUN", "TEA", "TOY", "VAN", "WEB", "ZOO"),
)
SAME_SHAPE = 0.35  # probability that a thing repeats the first one's shape in an ordinary scene
CROWDED = 0.25  # probability of a crowd of five to nine things
SAME_IN_CROWD = 0.85  # the same probability in a crowd: counting to nine needs nine of a kind
IS_JAPANESE, IS_CARD = 0.3, 0.15  # probabilities for each thing of an ordinary scene
STACKED = 0.5  # probability that one thing of a scene has another in front of it


@dataclass(frozen=True)
class Thing:
    """A coloured shape, a card with a text, or a Japanese thing, in a cell (0 to 8, row by row).

    `look` is a shape, `card`, or a key of JAPANESE_THINGS. `front`: it partly covers the previous thing, in the same
    cell. `shift` and `scale` jitter only the drawing.
    """

    look: str
    cell: int
    colour: str = ""
    text: str = ""
    front: bool = False
    shift: tuple[float, float] = (0.0, 0.0)  # in cells
    scale: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether every language has a word for it."""
        return self.look not in JAPANESE_THINGS


@dataclass(frozen=True)
class Scene:
    """Three to nine things, ordered by cell; later ones are drawn over earlier ones."""

    things: tuple[Thing, ...]

    @property
    def canonical(self) -> str:
        """The content that determines the split, without jitter."""
        return ";".join(f"{t.cell}{'+' if t.front else ''} {t.colour} {t.look} {t.text}" for t in self.things)

    def alone(self, cell: int) -> Thing | None:
        """The thing in a cell if it is the only one there, else None."""
        inside = [thing for thing in self.things if thing.cell == cell]
        return inside[0] if len(inside) == 1 else None

    def stacks(self) -> list[tuple[Thing, Thing]]:
        """Pairs of a thing and the one in front of it."""
        return [(behind, front) for behind, front in zip(self.things, self.things[1:], strict=False) if front.front]


def sample_scene(rng: random.Random, split: Split) -> Scene:
    """Draw scenes until one belongs to the split."""
    while True:
        scene = _sample_crowd(rng) if rng.random() < CROWDED else _sample_mixed(rng)
        if split_of(scene.canonical) == split:
            return scene


def name_thing(thing: Thing, language: Language, style: Style = "polite") -> str:
    """`red circle`, `card saying CAT`, `red gate`; 赤い丸, CATの札, 鳥居; in the terse Japanese style 赤丸, 赤い門."""
    if thing.look == CARD:
        return f"card saying {thing.text}" if language == "en" else f"{thing.text}の札"
    if thing.look in JAPANESE_THINGS:
        found = JAPANESE_THINGS[thing.look]
        if language == "en":
            return found.looks
        return found.name if style == "polite" else found.looks_ja
    if language == "en":
        return f"{thing.colour} {thing.look}"
    before, alone = COLOURS[thing.colour]
    return (before if style == "polite" else alone) + SHAPES[thing.look]


def describe(scene: Scene, language: Language, *, named: bool = False) -> str:
    """The scene in words, which text models get instead of an image. `named`: Japanese things by their names."""
    parts = []
    for thing in scene.things:
        style: Style = "terse" if language == "ja" and not thing.plain and not named else "polite"
        name = name_thing(thing, language, style)
        if language == "en":
            parts.append(f"before it {name}" if thing.front else f"{name} {CELL_NAMES[thing.cell]}")
        else:
            parts.append(f"その手前に{name}" if thing.front else f"{CELLS[CELL_NAMES[thing.cell]]}に{name}")
    return (", " if language == "en" else "、").join(parts)


def _sample_crowd(rng: random.Random) -> Scene:
    common = rng.choice(list(SHAPES))
    cells = sorted(rng.sample(range(9), rng.randint(5, 9)))
    looks = [common if rng.random() < SAME_IN_CROWD else rng.choice(list(SHAPES)) for _ in cells]
    return Scene(tuple(_shape(rng, look, cell) for look, cell in zip(looks, cells, strict=True)))


def _sample_mixed(rng: random.Random) -> Scene:
    first = rng.choice(list(SHAPES))
    things: list[Thing] = []
    cells = sorted(rng.sample(range(9), rng.choice((3, 4, 5))))
    stacked = rng.choice(cells) if rng.random() < STACKED else None
    carded = False
    for cell in cells:
        kind = rng.random()
        if kind < IS_JAPANESE:
            things.append(Thing(rng.choice(list(JAPANESE_THINGS)), cell, **_jitter(rng)))
        elif kind < IS_JAPANESE + IS_CARD and not carded:
            text = rng.choice(WORDS) if rng.random() < 0.5 else str(rng.randint(10, 99))
            things.append(Thing(CARD, cell, text=text, **_jitter(rng)))
            carded = True
        else:
            look = first if rng.random() < SAME_SHAPE else rng.choice(list(SHAPES))
            things.append(_shape(rng, look, cell))
        if cell == stacked and things[-1].look in SHAPES:
            side = (rng.choice((-1, 1)) * rng.uniform(0.2, 0.28), rng.choice((-1, 1)) * rng.uniform(0.2, 0.28))
            front = _shape(rng, rng.choice(list(SHAPES)), cell)
            things.append(Thing(front.look, cell, front.colour, front=True, shift=side, scale=rng.uniform(0.65, 0.8)))
    return Scene(tuple(things))


def _shape(rng: random.Random, look: str, cell: int) -> Thing:
    return Thing(look, cell, rng.choice(list(COLOURS)), **_jitter(rng))


def _jitter(rng: random.Random) -> dict[str, Any]:
    # Wide enough that neighbours overlap, narrow enough that every thing stays in its cell.
    return {"shift": (rng.uniform(-0.16, 0.16), rng.uniform(-0.16, 0.16)), "scale": rng.uniform(0.85, 1.25)}
