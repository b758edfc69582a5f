"""What a pool of workers is and what comes out of it. Knows no cluster, no searchers and no study files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Outcome:
    """A ticket that came back: its evaluation or, as a text, why there is none; and who says so."""

    ticket: int
    result: Any
    worker: str


class Pool(Protocol):
    """Workers that evaluate. A ticket comes back once, whatever happens to a worker."""

    @property
    def size(self) -> int:
        """How many workers there are, or will be once they are ready."""

    def free(self) -> int:
        """How many candidates can be taken at once."""

    def submit(self, ticket: int, work: Any) -> None:
        """Give work to a free worker: a recipe, or what else its evaluator takes."""

    def wait(self) -> Sequence[Outcome]:
        """What has come, at least one outcome, or nothing where a worker became free without one."""
