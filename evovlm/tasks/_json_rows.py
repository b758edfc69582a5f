"""Parse JSON of unknown origin, one value or a list of objects, with the place of each mistake.

Knows JSON; no tasks. Python's own parser accepts keys given twice, lone surrogates and numbers without end.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from evovlm.system.bounded_json import MOST_DEPTH, TOO_DEEP, BadValue, shown, unique
from evovlm.system.errors import DataError

# Bytes of a line or row. JSON can take 24 times its size in memory; no row of text has a tenth of this.
MOST_ROW = 4 * 2**20
MOST_DIGITS = 400  # of a whole number
CHUNK = 2**16
_WHITE = re.compile(r"[ \t\r\n]*")
# How close to the end of what has been read a mistake may only be a value whose rest is missing.
_UNFINISHED = 12


def parse_json(text: str) -> Any:
    """One JSON value. Raises BadValue, or json.JSONDecodeError with the place, if it is not one that we accept."""
    try:
        value = DECODER.decode(text)
    except RecursionError:
        raise BadValue(TOO_DEEP) from None
    check_value(value)
    return value


def check_value(value: Any) -> None:
    """Raise BadValue if a text in a value holds NUL or half of a surrogate pair, or if the value is nested too deep."""
    columns = value.items() if isinstance(value, dict) else (("a text", value),)
    for name, part in columns:
        problem = _problem(name) if isinstance(value, dict) else None
        if problem:
            raise BadValue(f"the key `{shown(name)}` {problem}")
        problem = _problem(part) if isinstance(part, str) else _problem_within(part)
        if problem:
            raise BadValue(f"`{shown(name)}` {problem}" if isinstance(value, dict) else f"{name} {problem}")


def _problem(text: str) -> str | None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is no character; remove it"
    return "holds a NUL character; remove it" if "\0" in text else None


def _problem_within(value: Any) -> str | None:
    """What is wrong with the texts of a value of any depth. Iterators, as a list of all parts would fill the memory."""
    open_parts: list[Iterator[Any]] = [iter((value,))]
    while open_parts:
        if len(open_parts) > MOST_DEPTH:
            return f"has {TOO_DEEP}"
        for part in open_parts[-1]:
            if isinstance(part, str):
                if problem := _problem(part):
                    return problem
            elif part and isinstance(part, dict | list):
                open_parts.append(chain(part.keys(), part.values()) if isinstance(part, dict) else iter(part))
                break
        else:
            open_parts.pop()
    return None


def json_list(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that holds a list of them, read piece by piece. Raises DataError with line and column."""
    text = _Text(file, path)
    text.skip("[")
    if text.next() == "]":
        text.skip("]")
    else:
        while True:
            yield text.object()
            if text.next() != ",":
                break
            text.skip(",")
        text.skip("]")
    if text.next():
        raise text.error("there is more after the end of the list")


class _Text:
    """The text of a file, of which only the part that is being parsed is in memory."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column, self._bytes = 1, 1, 0

    def next(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            match = _WHITE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def skip(self, character: str) -> None:
        """Step over a character. Raises DataError if another one comes next."""
        found = self.next()
        if found != character:
            raise self.error(f"expected {character!r}, found {found!r}" if found else "the file ends too early")
        self._at += 1

    def object(self) -> dict[str, Any]:
        """The next value, which must be an object. Raises DataError if it is none."""
        self.next()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if not isinstance(value, dict):
                    raise BadValue('not a list of objects; give rows such as {"question": ...}')
                check_value(value)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self._text) - _UNFINISHED or error.msg.startswith("Unterminated")
                if self._ended or not near_end:
                    raise self.error(f"not valid JSON: {error.msg}", error.pos) from None
                if len(self._text) - self._at > MOST_ROW:
                    raise self.error(f"a row of more than {MOST_ROW:,} bytes, the limit") from None
                self._more()
            except BadValue as error:
                raise self.error(str(error)) from None
            except RecursionError:
                raise self.error(TOO_DEEP) from None
            else:
                self._at = end
                return value

    def error(self, problem: str, at: int | None = None) -> DataError:
        """A DataError that names file, line and column."""
        line, column = self._place(self._at if at is None else at)
        return DataError(f"{self._path}:{line}:{column}: {problem}; give a list of objects")

    def _place(self, at: int) -> tuple[int, int]:
        breaks = self._text.count("\n", 0, at)
        column = at - self._text.rfind("\n", 0, at) if breaks else self._column + at
        return self._line + breaks, column

    def _more(self) -> None:
        """Read on, at least as much as is waiting, and forget what has been parsed."""
        (self._line, self._column), self._text = self._place(self._at), self._text[self._at :]
        self._at = 0
        piece = self._file.read(max(CHUNK, len(self._text)))
        self._ended = not piece
        try:
            self._text += self._decode.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            self._text += error.object[: error.start].decode("utf-8", "ignore")
            raise self.error("not UTF-8; save the file as UTF-8", len(self._text)) from None


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise BadValue(f"a number of {len(digits):,} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def _constant(name: str) -> float:
    if name != "NaN":  # which data frames write for a missing cell
        raise BadValue(f"{name} is no number that can be compared; leave the cell empty")
    return float("nan")


DECODER = json.JSONDecoder(object_pairs_hook=unique, parse_int=_integer, parse_constant=_constant)
