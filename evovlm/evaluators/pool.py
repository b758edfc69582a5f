"""The protocol of a pool of workers, and its outcomes. Knows no cluster, no searchers and no study files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Outcome:
    """A finished ticket: `result` is the evaluation or, if it failed, the reason as text; `worker` is its worker."""

    ticket: int
    result: Any
    worker: str


class Pool(Protocol):
    """Workers that evaluate candidates. Each ticket is returned exactly once, even if a worker is lost."""

    @property
    def size(self) -> int:
        """Number of workers, including those still starting."""

    def free(self) -> int:
        """Return how many candidates can be submitted now."""

    def submit(self, ticket: int, work: Any) -> None:
        """Give work to a free worker: a recipe, or whatever its evaluator accepts."""

    def wait(self) -> Sequence[Outcome]:
        """Wait for outcomes and return them; empty if a worker became free without an outcome."""
