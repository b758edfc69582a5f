"""Limits that keep the scoring of any text bounded in time and memory; texts of normal length are not affected.

Knows characters; no scores. A model that repeats itself can write hundreds of thousands of characters, and several
libraries take quadratic time on such a text, or crash.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

# Of a longer text, only this many characters are scored: the first for words and language, the last for numbers. It is
# what a model can write in about 40,000 tokens of Japanese.
MOST_CHARACTERS = 65_536
# Texts up to this length are normalised in one go, because sorting their marks cannot take long.
SHORT = 1_000
# The stream-safe text format of Unicode Standard Annex 15 allows as many combining marks in a row.
MOST_MARKS = 30
LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Result = TypeVar("Result")


def head(text: str) -> str:
    """The part of a text that counts for words and language."""
    return text[:MOST_CHARACTERS]


def tail(text: str) -> str:
    """The part of a text that counts for numbers: answers come last."""
    return text[-MOST_CHARACTERS:]


def encodable(text: str) -> str:
    """The text as libraries in C++ can take it: lone surrogates are replaced, and NUL, which ends a C string."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = LONE_SURROGATE.sub("\ufffd", text)
    return text.replace("\0", " ") if "\0" in text else text


def nfkc(text: str) -> str:
    """Unicode's compatibility form; in long texts, without the combining marks after `MOST_MARKS` in a row.

    Sorting a run of marks takes Python time quadratic in its length.
    """
    if len(text) > SHORT and not text.isascii():
        text = _with_few_marks(text)
    return unicodedata.normalize("NFKC", text)


def remember(function: Callable[..., Result]) -> Callable[..., Result]:
    """Cache a pure function of one or two texts: many results if they are short, few if they would fill the memory."""
    of_short = lru_cache(maxsize=65536)(function)
    of_long = lru_cache(maxsize=4)(function)

    @wraps(function)
    def remembered(*texts: str) -> Result:
        return (of_short if len(texts[0]) + len(texts[-1]) <= SHORT else of_long)(*texts)

    return remembered


def _with_few_marks(text: str) -> str:
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if _is_mark(character) else 0
        if marks <= MOST_MARKS:
            kept.append(character)
    return "".join(kept)


@lru_cache(maxsize=65536)
def _is_mark(character: str) -> bool:
    """Whether the character's decomposition begins with a combining mark, as that of the half-width ﾞ also does."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0
