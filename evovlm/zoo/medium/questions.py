"""Questions about a medium scene, in two languages and styles.

Knows scenes and words; draws nothing and knows no model. Kinds whose names begin with `wild` use the names of Japanese
things, which occur in no English text; the others are about things that both languages name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.medium._scenes import CARD, Scene, Thing, name_thing, sample_scene
from evovlm.zoo.scenes import CELL_NAMES, CELLS, COLOURS, SHAPES, SIDES, Fact, Language, Style
from evovlm.zoo.splits import Split, digest

COUNTS = tuple(
    zip(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], "一二三四五六七八九", strict=True)
)


@dataclass(frozen=True)
class MediumQuestion:
    """A question about a scene, with the answers that count as right."""

    id: str
    scene: Scene
    question: str
    references: tuple[str, ...]


def facts(scene: Scene, kinds: Sequence[str]) -> list[Fact]:
    """All that can be asked about a scene of some kinds, in a fixed order."""
    return [fact for kind in kinds for fact in KINDS[kind](scene)]


def sample_fact(rng: random.Random, scene: Scene, kinds: Sequence[str]) -> Fact | None:
    """Draw a kind by its share among `kinds`, then a fact of that kind; None if the scene has none."""
    kind = rng.choices(kinds, weights=[SHARES[name] for name in kinds])[0]
    found = KINDS[kind](scene)
    return rng.choice(found) if found else None


def sample_asked(rng: random.Random, split: Split, kinds: Sequence[str]) -> tuple[Scene, Fact]:
    """Draw a scene of a split and a fact about it, of one of the kinds."""
    while True:
        scene = sample_scene(rng, split)
        fact = sample_fact(rng, scene, kinds)
        if fact is not None:
            return scene, fact


def sample_questions(
    split: Split, count: int, seed: int, kinds: Sequence[str], language: Language = "ja"
) -> list[MediumQuestion]:
    """`count` different questions about scenes of one split; the same arguments give the same questions.

    The id contains the split, the kind, and a digest of scene and question.
    """
    rng = random.Random(f"medium/{split}/{seed}")
    found: dict[str, MediumQuestion] = {}
    while len(found) < count:
        scene, fact = sample_asked(rng, split, kinds)
        name = f"{split}-{fact.kind}-{digest(scene.canonical + '|' + fact.question['ja'])}"
        references = (fact.answer[language, "polite"],)
        found.setdefault(name, MediumQuestion(name, scene, fact.question[language], references))
    return list(found.values())


def _fact(kind: str, english: tuple[str, str], asked: str, polite: str, terse: str) -> Fact:
    question, answer = english
    answers: dict[tuple[Language, Style], str] = {
        ("en", "polite"): answer,
        ("en", "terse"): answer,
        ("ja", "polite"): f"{polite}です",
        ("ja", "terse"): terse,
    }
    return Fact(kind, {"en": question, "ja": asked}, answers)


def _unique(scene: Scene) -> list[Thing]:
    """Things that are unique in the scene by their English names, which are less specific than the Japanese ones."""
    names = [name_thing(thing, "en") for thing in scene.things]
    return [thing for thing, name in zip(scene.things, names, strict=True) if names.count(name) == 1]


def _names(thing: Thing) -> tuple[str, str, str]:
    return name_thing(thing, "en"), name_thing(thing, "ja"), name_thing(thing, "ja", "terse")


def _at(scene: Scene) -> list[Fact]:
    made = []
    for cell, place in enumerate(CELL_NAMES):
        thing = scene.alone(cell)
        if thing is not None:
            english, polite, terse = _names(thing)
            asked = f"{CELLS[place]}に何がありますか。"
            kind = "at" if thing.plain else "wild-name"
            made.append(_fact(kind, (f"What is at the {place}?", english), asked, polite, terse))
    return made


def _where(scene: Scene) -> list[Fact]:
    made = []
    for thing in _unique(scene):
        place, kind = CELL_NAMES[thing.cell], "where" if thing.plain else "wild-where"
        asked = f"{name_thing(thing, 'ja')}はどこですか。"
        made.append(_fact(kind, (f"Where is the {name_thing(thing, 'en')}?", place), asked, CELLS[place], CELLS[place]))
    return made


def _relation(scene: Scene) -> list[Fact]:
    made = []
    for thing in _unique(scene):
        for side, japanese, right, down in SIDES:
            row, column = thing.cell // 3 + down, thing.cell % 3 + right
            other = scene.alone(row * 3 + column) if 0 <= row < 3 and 0 <= column < 3 else None
            if other is not None:
                english, polite, terse = _names(other)
                asked = f"{name_thing(thing, 'ja')}の{japanese}に何がありますか。"
                kind = "relation" if thing.plain and other.plain else "wild-beside"
                question = f"What is {side} the {name_thing(thing, 'en')}?"
                made.append(_fact(kind, (question, english), asked, polite, terse))
    return made


def _colour(scene: Scene) -> list[Fact]:
    looks = [thing.look for thing in scene.things]
    made = []
    for thing in scene.things:
        if thing.colour and looks.count(thing.look) == 1:
            shape, (before, alone) = SHAPES[thing.look], COLOURS[thing.colour]
            question = (f"What colour is the {thing.look}?", thing.colour)
            made.append(_fact("colour", question, f"{shape}は何色ですか。", f"{before}{shape}", alone))
    return made


def _count(scene: Scene) -> list[Fact]:
    looks = [thing.look for thing in scene.things if thing.look in SHAPES]
    made = []
    for shape in dict.fromkeys(looks):
        number = looks.count(shape)
        english, japanese = COUNTS[number - 1]
        question = f"How many {shape}{'es' if shape == 'cross' else 's'} are there?"
        asked = f"{SHAPES[shape]}はいくつありますか。"
        made.append(_fact("count", (question, english), asked, f"{japanese}つ", str(number)))
    return made


def _front(scene: Scene) -> list[Fact]:
    unique = _unique(scene)
    made = []
    for behind, front in scene.stacks():
        for asked, told, side, japanese in ((behind, front, "in front of", "手前"), (front, behind, "behind", "後ろ")):
            if asked in unique:
                english, polite, terse = _names(told)
                question = (f"What is {side} the {name_thing(asked, 'en')}?", english)
                made.append(
                    _fact("front", question, f"{name_thing(asked, 'ja')}の{japanese}に何がありますか。", polite, terse)
                )
    return made


def _read(scene: Scene) -> list[Fact]:
    texts = [thing.text for thing in scene.things if thing.look == CARD]
    asked = "札に何と書いてありますか。"
    return [_fact("read", ("What does the card say?", text), asked, text, text) for text in texts]


def _lore(scene: Scene) -> list[Fact]:
    made = []
    for cell, place in enumerate(CELL_NAMES):
        thing = scene.alone(cell)
        if thing is not None and not thing.plain:
            found = JAPANESE_THINGS[thing.look]
            asked = f"{CELLS[place]}の物はどんな物ですか。"
            question = (f"What sort of thing is at the {place}?", found.sort)
            made.append(_fact("wild-lore", question, asked, found.lore, found.looks_ja))
    return made


def _only(kind: str, made: Callable[[Scene], list[Fact]]) -> Callable[[Scene], list[Fact]]:
    return lambda scene: [fact for fact in made(scene) if fact.kind == kind]


KINDS: dict[str, Callable[[Scene], list[Fact]]] = {
    "at": _only("at", _at),
    "where": _only("where", _where),
    "colour": _colour,
    "count": _count,
    "relation": _only("relation", _relation),
    "front": _front,
    "read": _read,
    "wild-name": _only("wild-name", _at),
    "wild-where": _only("wild-where", _where),
    "wild-beside": _only("wild-beside", _relation),
    "wild-lore": _lore,
}
SHARES = {"at": 0.17, "where": 0.13, "colour": 0.1, "count": 0.2, "relation": 0.2, "front": 0.1, "read": 0.1}
SHARES |= {"wild-name": 0.25, "wild-where": 0.1, "wild-beside": 0.15, "wild-lore": 0.15}
PLAIN = tuple(kind for kind in KINDS if not kind.startswith("wild"))
WILD = tuple(kind for kind in KINDS if kind.startswith("wild"))
