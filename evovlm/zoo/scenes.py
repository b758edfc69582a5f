"""Scenes of coloured shapes, and questions about them in two languages.

Knows words and layouts; draws nothing (see `render`) and knows no tokenizer and no model.

A scene is three or four things on a grid of three by three cells. Its split depends on its content (colours, shapes and
cells, not the jitter), so no scene of one split can appear in another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evovlm.zoo.splits import Split, digest, split_of

Language = Literal["ja", "en"]
Style = Literal["polite", "terse"]

# English name -> (before a noun, alone)
COLOURS = {
    "red": ("赤い", "赤"),
    "blue": ("青い", "青"),
    "green": ("緑の", "緑"),
    "yellow": ("黄色い", "黄"),
    "purple": ("紫の", "紫"),
    "black": ("黒い", "黒"),
}
SHAPES = {"circle": "丸", "square": "四角", "triangle": "三角", "star": "星", "heart": "ハート", "cross": "十字"}
CELLS = {
    "top left": "左上",
    "top": "上",
    "top right": "右上",
    "left": "左",
    "middle": "中央",
    "right": "右",
    "bottom left": "左下",
    "bottom": "下",
    "bottom right": "右下",
}
CELL_NAMES = tuple(CELLS)
ROWS = {"top": "上", "middle": "中", "bottom": "下"}
COUNTS = (("one", "一つ"), ("two", "二つ"), ("three", "三つ"), ("four", "四つ"))
# (English, Japanese, step of the column, step of the row)
SIDES = (("right of", "右", 1, 0), ("left of", "左", -1, 0), ("above", "上", 0, -1), ("below", "下", 0, 1))
SAME_SHAPE = 0.35  # probability that a thing repeats the first one's shape, so that counting questions make sense


@dataclass(frozen=True)
class Thing:
    """A coloured shape in a cell (0 to 8, row by row); `shift` and `scale` jitter only the drawing."""

    colour: str
    shape: str
    cell: int
    shift: tuple[float, float] = (0.0, 0.0)  # in cells
    scale: float = 1.0


@dataclass(frozen=True)
class Scene:
    """Three or four things in different cells, in the order of their cells."""

    things: tuple[Thing, ...]

    @property
    def canonical(self) -> str:
        """The content that determines the split, without jitter."""
        return ";".join(f"{thing.cell} {thing.colour} {thing.shape}" for thing in self.things)


@dataclass(frozen=True)
class Fact:
    """One question about a scene in every language, with its answer in every language and style."""

    kind: str
    question: dict[Language, str]
    answer: dict[tuple[Language, Style], str]


@dataclass(frozen=True)
class SceneQuestion:
    """A question about a scene, with the answers that count as right."""

    id: str
    scene: Scene
    question: str
    references: tuple[str, ...]


def sample_scene(rng: random.Random, split: Split) -> Scene:
    """Draw scenes until one belongs to the split."""
    while True:
        first = rng.choice(list(SHAPES))
        things = [
            Thing(
                colour=rng.choice(list(COLOURS)),
                shape=first if rng.random() < SAME_SHAPE else rng.choice(list(SHAPES)),
                cell=cell,
                shift=(rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)),
                scale=rng.uniform(0.8, 1.1),
            )
            for cell in sorted(rng.sample(range(9), rng.choice((3, 4))))
        ]
        scene = Scene(tuple(things))
        if split_of(scene.canonical) == split:
            return scene


def name_thing(thing: Thing, language: Language, style: Style = "polite") -> str:
    """`red circle`, `赤い丸`, or in the terse Japanese style `赤丸`."""
    if language == "en":
        return f"{thing.colour} {thing.shape}"
    before, alone = COLOURS[thing.colour]
    return (before if style == "polite" else alone) + SHAPES[thing.shape]


def describe(scene: Scene, language: Language) -> str:
    """The scene in words, which text models get instead of an image."""
    if language == "en":
        return ", ".join(f"{name_thing(thing, 'en')} {CELL_NAMES[thing.cell]}" for thing in scene.things)
    return "、".join(f"{CELLS[CELL_NAMES[thing.cell]]}に{name_thing(thing, 'ja')}" for thing in scene.things)


def facts(scene: Scene, kinds: tuple[str, ...] | None = None) -> list[Fact]:
    """All that can be asked about a scene, in a fixed order; `kinds` keeps some of `KINDS`."""
    return [fact for kind in kinds or tuple(KINDS) for fact in KINDS[kind](scene)]


def sample_fact(rng: random.Random, scene: Scene, kinds: tuple[str, ...] | None = None) -> Fact | None:
    """Draw a kind by its share among `kinds`, then a fact of that kind; None if the scene has none."""
    wanted = kinds or tuple(SHARES)
    kind = rng.choices(wanted, weights=[SHARES[name] for name in wanted])[0]
    found = KINDS[kind](scene)
    return rng.choice(found) if found else None


def sample_questions(split: Split, count: int, seed: int, language: Language = "ja") -> list[SceneQuestion]:
    """`count` different questions about scenes of one split, one per scene; the same arguments give the same questions.

    References are short (2 to 6 MeCab tokens in Japanese). The id depends only on scene and question.
    """
    rng = random.Random(f"questions/{split}/{seed}")
    found: dict[str, SceneQuestion] = {}
    while len(found) < count:
        scene = sample_scene(rng, split)
        fact = sample_fact(rng, scene)
        if fact is None:
            continue
        name = f"{split}-{fact.kind}-{digest(scene.canonical + '|' + fact.question['en'])}"
        references = (fact.answer[language, "polite"],)
        found.setdefault(name, SceneQuestion(name, scene, fact.question[language], references))
    return list(found.values())


def _fact(kind: str, english: tuple[str, str], japanese: tuple[str, str, str]) -> Fact:
    question, answer = english
    asked, polite, terse = japanese
    answers: dict[tuple[Language, Style], str] = {
        ("en", "polite"): answer,
        ("en", "terse"): answer,
        ("ja", "polite"): polite,
        ("ja", "terse"): terse,
    }
    return Fact(kind, {"en": question, "ja": asked}, answers)


def _noun(thing: Thing) -> tuple[str, str, str]:
    name = name_thing(thing, "ja")
    return name_thing(thing, "en"), f"{name}です", name_thing(thing, "ja", "terse")


def _at(scene: Scene) -> list[Fact]:
    made = []
    for thing in scene.things:
        place, (english, polite, terse) = CELL_NAMES[thing.cell], _noun(thing)
        asked = f"{CELLS[place]}に何がありますか。"
        made.append(_fact("at", (f"What is at the {place}?", english), (asked, polite, terse)))
    return made


def _where(scene: Scene) -> list[Fact]:
    names = [name_thing(thing, "en") for thing in scene.things]
    made = []
    for thing, name in zip(scene.things, names, strict=True):
        if names.count(name) == 1:
            place = CELL_NAMES[thing.cell]
            asked = f"{name_thing(thing, 'ja')}はどこですか。"
            answers = (asked, f"{CELLS[place]}です", CELLS[place])
            made.append(_fact("where", (f"Where is the {name}?", place), answers))
    return made


def _colour(scene: Scene) -> list[Fact]:
    shapes = [thing.shape for thing in scene.things]
    made = []
    for thing in scene.things:
        if shapes.count(thing.shape) == 1:
            shape = SHAPES[thing.shape]
            before, alone = COLOURS[thing.colour]
            answers = (f"{shape}は何色ですか。", f"{before}{shape}です", alone)
            made.append(_fact("colour", (f"What colour is the {thing.shape}?", thing.colour), answers))
    return made


def _count(scene: Scene) -> list[Fact]:
    shapes = [thing.shape for thing in scene.things]
    made = []
    for shape in dict.fromkeys(shapes):
        number = shapes.count(shape)
        english, japanese = COUNTS[number - 1]
        question = f"How many {shape}{'es' if shape == 'cross' else 's'} are there?"
        answers = (f"{SHAPES[shape]}はいくつありますか。", f"{japanese}です", str(number))
        made.append(_fact("count", (question, english), answers))
    return made


def _relation(scene: Scene) -> list[Fact]:
    cells = {thing.cell: thing for thing in scene.things}
    names = [name_thing(thing, "en") for thing in scene.things]
    made = []
    for thing, name in zip(scene.things, names, strict=True):
        for side, japanese, right, down in SIDES:
            row, column = thing.cell // 3 + down, thing.cell % 3 + right
            other = cells.get(row * 3 + column) if 0 <= row < 3 and 0 <= column < 3 else None
            if other is not None and names.count(name) == 1:
                english, polite, terse = _noun(other)
                asked = f"{name_thing(thing, 'ja')}の{japanese}に何がありますか。"
                made.append(_fact("relation", (f"What is {side} the {name}?", english), (asked, polite, terse)))
    return made


def _pair(scene: Scene) -> list[Fact]:
    made = []
    for row, (english, japanese) in enumerate(ROWS.items()):
        inside = [thing for thing in scene.things if thing.cell // 3 == row]
        if len(inside) == 2:
            shapes = [SHAPES[thing.shape] for thing in inside]
            answer = " and ".join(thing.shape for thing in inside)
            asked = f"{japanese}の段にはどんな形がありますか。"
            answers = (asked, "と".join(shapes) + "です", "、".join(shapes))
            made.append(_fact("pair", (f"What shapes are in the {english} row?", answer), answers))
    return made


KINDS: dict[str, Callable[[Scene], list[Fact]]] = {
    "at": _at,
    "where": _where,
    "colour": _colour,
    "count": _count,
    "relation": _relation,
    "pair": _pair,
}
SHARES = {"at": 0.2, "where": 0.15, "colour": 0.1, "count": 0.1, "relation": 0.25, "pair": 0.2}
