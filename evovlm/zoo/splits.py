"""Assign scenes and problems to splits by a hash of their content, so that splits are disjoint by construction.

Knows only text.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Split = Literal["train", "search", "validation", "test"]

# Upper ends of the splits' ranges in 100 buckets.
EDGES: tuple[tuple[int, Split], ...] = ((76, "train"), (84, "search"), (92, "validation"), (100, "test"))


def digest(text: str) -> str:
    """A hash of a text, sixteen hexadecimal digits, the same on every machine."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def split_of(canonical: str) -> Split:
    """The split of a canonical text: train 76 %; search, validation and test 8 % each."""
    bucket = int(digest(canonical), 16) % 100
    return next(name for edge, name in EDGES if bucket < edge)


def kind_of(name: str) -> str:
    """The kind of a zoo question, such as `wild-name`, from its id SPLIT-KIND-DIGEST; empty for another id."""
    return name.partition("-")[2].rpartition("-")[0]
