"""Read JSON of unknown origin: values of a few plain types, in time and memory proportional to the text.

Does not know what the keys mean. Python's own parser accepts keys given twice, NaN, halves of surrogate pairs and
numbers of any length, and needs up to 24 times the text's size in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import Unreadable, read_text

MOST_DEPTH = 100  # levels of lists and objects
TOO_DEEP = f"more than {MOST_DEPTH} levels of lists and objects"
# Lists, objects and values of a file. The largest tokenizer that we know has less than half as many.
MOST_VALUES = 4_000_000
# Characters of a number. transformers writes 1e30 as an integer; an exact double has 17 digits.
MOST_DIGITS = 40


class BadValue(ValueError):
    """A value that is JSON to Python but not to us; the message says why, without the place."""


class _Unfit:
    """Stands for a number that is not read, until its key is known."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def read_json(path: Path, most: int) -> Any:
    """The content of a regular JSON file of at most `most` bytes.

    Raises FileNotFoundError if there is none, and Unreadable, which names the file and the key or line, if it is not
    such a file, not JSON, or holds a key twice, NaN, an infinity, a number of more than MOST_DIGITS characters, half of
    a surrogate pair, more than MOST_DEPTH levels or more than MOST_VALUES values.
    """
    text = read_text(path, most)
    try:
        return parse_strictly(text)
    except json.JSONDecodeError as error:
        raise Unreadable(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except BadValue as error:
        raise Unreadable(f"{path}: {error}") from None


def parse_strictly(text: str) -> Any:
    """One JSON value. Raises json.JSONDecodeError, or BadValue for what `read_json` refuses besides."""
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise BadValue(f"more than {MOST_VALUES:,} values, the limit")
    unfit: list[_Unfit] = []

    def refused(problem: str) -> _Unfit:
        unfit.append(_Unfit(problem))
        return unfit[-1]

    def integer(digits: str) -> int | _Unfit:
        return int(digits) if len(digits) <= MOST_DIGITS else refused(f"a number of {len(digits):,} digits")

    def fraction(digits: str) -> float | _Unfit:
        if len(digits) > MOST_DIGITS:
            return refused(f"a number of {len(digits):,} characters")
        number = float(digits)
        return number if number - number == 0 else refused(f"{shown(digits)}, which is no finite number")

    decoder = json.JSONDecoder(
        object_pairs_hook=unique,
        parse_int=integer,
        parse_float=fraction,
        parse_constant=lambda name: refused(f"{name}, which is no finite number"),
    )
    try:
        value = decoder.decode(text)
    except RecursionError:
        raise BadValue(TOO_DEEP) from None
    _refuse(value, texts="\\ud" in text or "\\uD" in text)
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict. Raises BadValue, naming the key, if one occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadValue(f"the key `{shown(twice)}` occurs twice; keep one")
    return found


def shown(value: object) -> str:
    """A value as messages show it: one line of at most 60 characters."""
    text = str(value)
    text = " ".join(text.split() if len(text) <= 60 else [*text[:60].split(), "..."])
    return text.encode("utf-8", "backslashreplace").decode()


def _refuse(value: Any, *, texts: bool) -> None:
    """Raise BadValue, naming the keys that lead there, for a value that is not read. `texts`: look at these too."""
    open_parts: list[Iterator[tuple[Any, Any]]] = [iter(((None, value),))]
    names: list[Any] = []  # of the parts that are open, without the outermost
    while open_parts:
        for name, part in open_parts[-1]:
            kind = type(part)
            if kind is dict or kind is list:
                if not part:
                    continue
                names.append(name)
                if len(names) > MOST_DEPTH:
                    raise BadValue(f"`{_path(names[:4])}` has {TOO_DEEP}")
                open_parts.append(iter(part.items()) if kind is dict else enumerate(part))
                break
            if kind is _Unfit:
                raise BadValue(f"`{_path([*names, name])}` is {part.problem}")
            if texts and any(isinstance(text, str) and _is_broken(text) for text in (name, part)):
                raise BadValue(f"`{_path([*names, name])}` holds half of a surrogate pair, which is no character")
        else:
            open_parts.pop()
            if names:
                names.pop()


def _path(names: list[Any]) -> str:
    return shown(".".join(str(name) for name in names if name is not None) or "the value")


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
