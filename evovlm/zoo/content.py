"""What an answer about a scene says, whatever its language and style.

Knows the words of both zoos' worlds; no models and no scores. A question's kind tells what it asks for: a thing, a
place, a colour, a number, the shapes of a row, or the text on a card. Sentences are not understood: an answer says
what its words mention, and nothing if it mentions several things or denies one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from evovlm.zoo._japanese_things import JAPANESE_THINGS
from evovlm.zoo.scenes import CELLS, COLOURS, SHAPES

Slot = Literal["thing", "place", "colour", "number", "shapes", "text"]
SLOTS: dict[str, Slot] = {
    "at": "thing",
    "relation": "thing",
    "front": "thing",
    "where": "place",
    "colour": "colour",
    "count": "number",
    "pair": "shapes",
    "read": "text",
    "wild-name": "thing",
    "wild-where": "place",
    "wild-beside": "thing",
    "wild-lore": "thing",
}
LONGEST = 65_536  # characters of an answer that are read
CARD = "card"  # the value of a card whose text is not said
KANJI = "一二三四五六七八九"
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
READINGS = ("ひとつ", "ふたつ", "みっつ", "よっつ", "いつつ", "むっつ", "ななつ", "やっつ", "ここのつ")
# Parts of larger English numbers, with which a number is none of the nine.
LARGER = (
    *("zero", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand"),
)

# From a word, in lower case, to what it stands for.
_COLOURS = {word: name for name, (_, alone) in COLOURS.items() for word in (name, alone)}
_SHAPES = {word: name for name, japanese in SHAPES.items() for word in (name, japanese)} | {"円": "circle"}
_UPPER = {"top": "upper", "bottom": "lower"}


def _places() -> dict[str, str]:
    """All ways to say a place."""
    found = {japanese: name for name, japanese in CELLS.items()}
    found |= dict.fromkeys(("真ん中", "まん中", "真中", "中心", "middle", "center", "centre"), "middle")
    for name in CELLS:
        row, _, column = name.rpartition(" ")
        rows = [row, _UPPER[row]] if row else ["middle", "center"] if name in ("left", "right") else []
        found |= {f"{one}{sign}{column}": name for one in rows for sign in (" ", "-")}
        found |= dict.fromkeys((name, _UPPER.get(name, name)), name)
    return found


_PLACES = _places()
_JAPANESE = {
    word: look
    for look, thing in JAPANESE_THINGS.items()
    for word in (thing.looks, thing.looks_ja, thing.sort, thing.name, thing.lore)
}
_NUMBERS = {
    word: str(count) for count, words in enumerate(zip(NUMBERS, KANJI, READINGS, strict=True), 1) for word in words
}


def _any(words: Iterable[str]) -> str:
    """A pattern that matches any of the words, the longest first; English ones only whole, also in the plural."""
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(rf"(?<![a-z]){word}(?:e?s)?(?![a-z])" if word.isascii() else word for word in longest_first)


_COLOUR = rf"(?P<colour>{_any(_COLOURS)})色?[いの]?"
_SHAPE = rf"(?P<shape>{_any(_SHAPES)})"
_ENGLISH_NUMBER = rf"(?<![a-z])(?:{'|'.join((*NUMBERS, *LARGER))})(?![a-z])"
_TEXT = "(?<![a-z0-9])[a-z0-9]{1,16}(?![a-z0-9])"
_PATTERNS: dict[Slot, re.Pattern[str]] = {
    "thing": re.compile(
        rf"cards? (?:that )?(?:says|saying|with|reading) (?P<said>{_TEXT})"
        rf"|[「『]?(?P<written>{_TEXT})[」』]?(?:と(?:書かれた|書いた|いう))?の?札|(?P<card>{_any([CARD, '札'])})"
        rf"|(?P<japanese>{_any(_JAPANESE)})|{_COLOUR} ?{_SHAPE}|{_COLOUR.replace('colour', 'alone')}"
        rf"|{_SHAPE.replace('shape', 'plain')}"
    ),
    # "That's right" is no place.
    "place": re.compile(rf"(?<!that's )(?P<place>{_any(_PLACES)})"),
    "colour": re.compile(_COLOUR),
    # The words for shapes come first, because 三角 and 四角 begin with numbers and 十字 is one. A number of several
    # signs or words is none of the nine, and stands for itself.
    "number": re.compile(
        rf"{_any(_SHAPES)}|(?P<digits>-?[0-9]+(?:[.,][0-9]+)*)|(?P<number>{'|'.join(READINGS)}"
        rf"|[{KANJI}十百千〇零]+|{_ENGLISH_NUMBER}(?:[ -]{_ENGLISH_NUMBER})*)"
    ),
    "shapes": re.compile(_SHAPE),
    "text": re.compile(rf"(?P<text>{_TEXT})"),
}
# An answer that denies something says nothing that can be counted as right.
_DENIED = re.compile(r"ない|ません|なし|(?<![a-z])(?:no|not|none|neither|nothing|without)(?![a-z])|n't")
_BETWEEN = re.compile(r"(?<=[^\x00-\x7f])\s+(?=[^\x00-\x7f])")
_AROUND_A_TEXT = {
    *(
        "the",
        "a",
        "an",
        "card",
        "says",
        "saying",
        "say",
        "reads",
        "reading",
        "that",
        "with",
        "text",
        "word",
        "it",
        "is",
    ),
    *("on", "written"),
}


def _plain(answer: str) -> str:
    """The answer in one form of its signs: lower case, single spaces, none within Japanese."""
    text = unicodedata.normalize("NFKC", answer[:LONGEST]).casefold().replace("’", "'")
    return " ".join(_BETWEEN.sub("", text).split())


def mentions(answer: str, slot: Slot) -> list[str]:
    """All that an answer mentions of one sort, in order: `red circle`, `torii`, `top left`, `red`, `3`, `CAT`.

    A colour or a shape alone is a thing too, which no answer is right with. Only the first 65,536 characters are read.
    """
    values = [value for found in _PATTERNS[slot].finditer(_plain(answer)) if (value := _value(found))]
    if slot == "text":
        values = [value for value in values if value.casefold() not in _AROUND_A_TEXT]
    if slot == "thing" and len(values) == 2:  # 丸は赤いです; 赤い大きな丸
        colours, shapes = ([one for one in values if one in known] for known in (COLOURS, SHAPES))
        if len(colours) == len(shapes) == 1:
            return [f"{colours[0]} {shapes[0]}"]
    return values


def denies(answer: str) -> bool:
    """Whether an answer contains a word of denial."""
    return _DENIED.search(_plain(answer)) is not None


def said(answer: str, kind: str, question: str = "") -> str | None:
    """The one thing that an answer says to a question of a kind; None if it says nothing or several things.

    For the shapes of a row, those that it names, in alphabetical order with `+` between them. With the question, an
    answer on the colour or the number of another shape than the one that it asks about says nothing either. Raises
    KeyError for a kind that is not in `SLOTS`.
    """
    slot = SLOTS[kind]
    if denies(answer):
        return None
    if (
        slot in ("colour", "number")
        and question
        and set(mentions(answer, "shapes")) - set(mentions(question, "shapes"))
    ):
        return None
    found = mentions(answer, slot)
    if slot == "shapes":
        return "+".join(sorted(found)) or None
    return found[0] if len(set(found)) == 1 else None


def says(answer: str, reference: str, kind: str, question: str = "") -> bool:
    """Whether an answer says what the reference says, in any language and style.

    An answer that says several things, as one that lists all options does, is wrong. Raises KeyError for a kind that is
    not in `SLOTS`.
    """
    right = said(reference, kind)
    return right is not None and said(answer, kind, question) == right


def _value(found: re.Match[str]) -> str:
    """What a match stands for; empty for a word that is passed over."""
    of = {name: text for name, text in found.groupdict().items() if text is not None}
    return " ".join(_READ[name](text) for name, text in of.items())


def _known(words: dict[str, str], text: str) -> str:
    """The value of a word that may be in the plural."""
    return next(words[word] for word in (text, text[:-1], text[:-2]) if word in words)


# By the name of a group in the patterns: what its text stands for.
_READ: dict[str, Callable[[str], str]] = {
    "said": lambda text: f"{CARD} {text.upper()}",
    "written": lambda text: f"{CARD} {text.upper()}",
    "card": lambda text: CARD,
    "text": str.upper,
    "digits": lambda text: text.lstrip("0") or "0",
    "number": lambda text: _NUMBERS.get(text, text),
    "japanese": partial(_known, _JAPANESE),
    "colour": partial(_known, _COLOURS),
    "alone": partial(_known, _COLOURS),
    "shape": partial(_known, _SHAPES),
    "plain": partial(_known, _SHAPES),
    "place": partial(_known, _PLACES),
}
