"""The first place in which two JSON values differ, and how both are shown there. Knows JSON only."""

from __future__ import annotations

import json
import unicodedata
from typing import Any, Final

LONG = 60  # characters of a value that are shown
BEFORE = 20  # of them, before the first character that differs
NOTHING: Final = "nothing"  # how a value that is not there is shown
_ABSENT: Final = object()


def first_difference(where: str, then: Any, now: Any) -> tuple[str, str, str]:
    """The first place where two values differ, below the key `where`, and both values as they are shown.

    What is shown differs if the values do.
    """
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *now]:
            one, other = then.get(key, _ABSENT), now.get(key, _ABSENT)
            if one != other:
                return first_difference(f"{where}.{key}", one, other)
    if isinstance(then, list) and isinstance(now, list):
        for place in range(max(len(then), len(now))):
            one, other = (values[place] if place < len(values) else _ABSENT for values in (then, now))
            if one != other:
                return first_difference(f"{where}[{place}]", one, other)
    return where, *_shown(_text(then), _text(now))


def _text(value: Any) -> str:
    return NOTHING if value is _ABSENT else json.dumps(value, ensure_ascii=False)


def _shown(then: str, now: str) -> tuple[str, str]:
    """Both texts, cut around the first character that differs if they are long; escaped if they would look the same."""
    pairs = zip(then, now, strict=False)
    place = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(then), len(now)))
    start = max(0, place - BEFORE) if max(len(then), len(now)) > LONG else 0
    one, other = _cut(then, start), _cut(now, start)
    if _looks(one) == _looks(other):
        one, other = (text.encode("ascii", "backslashreplace").decode() for text in (one, other))
    return one, other


def _looks(text: str) -> str:
    """A text without what cannot be seen, and with one form of characters that have several."""
    return "".join(character for character in unicodedata.normalize("NFKC", text) if character.isprintable())


def _cut(text: str, start: int) -> str:
    stop = start + LONG
    return f"{'...' if start else ''}{text[start:stop]}{'...' if stop < len(text) else ''}"
