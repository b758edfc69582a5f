"""Text of unknown origin, such as a file's, made fit to print: short, and without what a terminal obeys.

Knows characters; not where the text comes from.
"""

from __future__ import annotations

import re

# Control characters but for tabs and line breaks, and those that change the direction of writing.
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

MOST_WORD = 300  # characters
MOST_PATH = 4096 + 64  # of a path on Linux, with what stands around it in a sentence
MOST_LINE = 3 * MOST_PATH
LONG_WORD = re.compile(rf"\S{{{MOST_WORD + 1},}}")


def abridged(text: str, most: int = 60) -> str:
    """The text if it has at most so many characters, else so many of them and three dots."""
    return text if len(text) <= most else f"{text[:most]}..."


def cut_words(text: str) -> str:
    """The text with overlong words cut, each with a note of its length, and overlong lines.

    Words are what is between spaces. What may be a path stays whole up to the system's limit.
    """
    lines = LONG_WORD.sub(_cut, text).split("\n")
    return "\n".join(abridged(line, MOST_LINE) for line in lines)


def _cut(found: re.Match[str]) -> str:
    word = found[0]
    return word if "/" in word and len(word) <= MOST_PATH else f"{word[:MOST_WORD]}... ({len(word):,} characters)"


def visible(text: str) -> str:
    """The text with control characters as escapes, such as `\\x1b`; tabs and line breaks stay."""
    return OBEYED.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
