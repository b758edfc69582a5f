"""Which split a scene or a problem belongs to: a function of its content, so splits are disjoint by construction.

Knows text alone.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

Split = Literal["train", "search", "validation", "test"]

# Of 100 buckets; the first number that the bucket is below names the split.
EDGES: tuple[tuple[int, Split], ...] = ((76, "train"), (84, "search"), (92, "validation"), (100, "test"))


def digest(text: str) -> str:
    """Sixteen hexadecimal digits that name a text, the same on every machine."""
    return blake2b(text.encode(), digest_size=8).hexdigest()


def split_of(canonical: str) -> Split:
    """The split of a canonical text: train 76 %, search, validation and test 8 % each."""
    bucket = int(digest(canonical), 16) % 100
    return next(name for edge, name in EDGES if bucket < edge)


def kind_of(name: str) -> str:
    """What a question of the zoo asks for: its id is split, kind and digest."""
    return name.split("-")[1]
