"""Allocates runs of places in a pool of tokens: one per prefix, freed when the last text that shares it ends.

Knows numbers; no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Span:
    """`length` places from `start` on, for `users` texts."""

    start: int
    length: int
    users: int


class Spans:
    """A first-fit allocator; adjacent free runs are joined. `length` places from `start` on are free at first."""

    def __init__(self, start: int, length: int) -> None:
        self._free = [(start, length)] if length else []

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether runs of all these lengths can be taken together."""
        trial = Spans(0, 0)
        trial._free = list(self._free)
        try:
            for length in lengths:
                trial.take(length, 1)
        except MemoryError:
            return False
        return True

    def take(self, length: int, users: int) -> Span:
        """Take a run for `users` texts. Raises MemoryError if no free run is long enough."""
        if length == 0:
            return Span(0, 0, users)
        for index, (start, room) in enumerate(self._free):
            if room >= length:
                rest = (start + length, room - length)
                self._free[index : index + 1] = [rest] if rest[1] else []
                return Span(start, length, users)
        raise MemoryError(f"no run of {length} tokens is free")

    def give_back(self, span: Span) -> None:
        """Release the run for one text; the last one frees it."""
        span.users -= 1
        if span.users or not span.length:
            return
        joined: list[tuple[int, int]] = []
        for start, length in sorted([*self._free, (span.start, span.length)]):
            if joined and joined[-1][0] + joined[-1][1] == start:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((start, length))
        self._free = joined
