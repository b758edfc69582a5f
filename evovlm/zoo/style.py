"""Rules that reword an answer about a scene in the style of the references, and add nothing that it does not say.

Knows the words of both zoos' worlds; no models and no scores.
"""

from __future__ import annotations

from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.content import CARD, KANJI, SLOTS, mentions, said
from evovlm.zoo.scenes import CELLS, COLOURS, SHAPES


def polite(answer: str, kind: str, question: str) -> str:
    """The answer in polite Japanese, as references are worded; unchanged if it does not say one thing.

    `question`: the Japanese question, from which a colour's shape is taken. A Japanese thing keeps the word it was
    given: what is described by its looks does not get its name. Raises KeyError for a kind that is not in `SLOTS`.
    """
    slot, value = SLOTS[kind], said(answer, kind, question)
    if value is None:
        return answer
    if slot == "thing":
        words = _thing(value, answer)
    elif slot == "place":
        words = CELLS[value]
    elif slot == "colour":
        asked = mentions(question, "shapes")
        words = COLOURS[value][0] + SHAPES[asked[0]] if asked else COLOURS[value][1]
    elif slot == "number":
        words = f"{KANJI[int(value) - 1]}つ" if value in map(str, range(1, 10)) else ""
    elif slot == "shapes":
        words = "と".join(SHAPES[shape] for shape in mentions(answer, slot))
    else:
        words = value
    return f"{words}です" if words else answer


def _thing(value: str, answer: str) -> str:
    """A thing's name in Japanese; empty for a colour or a shape alone, and for an English word without its looks."""
    if value in JAPANESE_THINGS:
        thing = JAPANESE_THINGS[value]
        known = {thing.name: thing.name, thing.lore: thing.lore, thing.looks_ja: thing.looks_ja}
        known[thing.looks] = thing.looks_ja
        return next((worded for word, worded in known.items() if word in answer.casefold()), "")
    first, _, second = value.partition(" ")
    if first == CARD:
        return f"{second}の札" if second else ""
    return COLOURS[first][0] + SHAPES[second] if second else ""
