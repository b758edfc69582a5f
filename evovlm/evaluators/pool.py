"""What a pool of workers is and what comes out of it. Knows recipes; no cluster, no searchers and no study files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evovlm.recipe import Recipe


@dataclass(frozen=True)
class Outcome:
    """A ticket that came back: its evaluation or, as a text, why there is none; and who says so."""

    ticket: int
    result: Any
    worker: str


class Pool(Protocol):
    """Workers that evaluate recipes. A ticket comes back once, whatever happens to a worker."""

    @property
    def size(self) -> int:
        """How many workers there are, or will be once they are ready."""

    def free(self) -> int:
        """How many candidates can be taken at once."""

    def submit(self, ticket: int, recipe: Recipe) -> None:
        """Give a candidate to a free worker."""

    def wait(self) -> Sequence[Outcome]:
        """What has come, at least one outcome, or nothing where a worker became free without one."""
