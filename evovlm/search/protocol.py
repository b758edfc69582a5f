"""What every searcher is given and must do. Knows numbers alone.

A searcher is a deterministic function of its settings and of what it was told, in order; that is what makes
a study resumable by replay. Scores are higher-is-better; the sign is flipped inside a searcher, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Genome = tuple[float, ...]


@dataclass(frozen=True)
class SearchSettings:
    """What every searcher is given: dimension, population (None: its own default), start and step in [0, 1]."""

    genes: int
    population: int | None
    start: float
    sigma: float
    seed: int


class Searcher(Protocol):
    """Ask for a generation, tell all its scores, in the order asked. None marks a failed candidate."""

    def ask(self) -> list[Genome]:
        """The next generation's genomes, each in the unit cube."""

    def tell(self, genomes: Sequence[Genome], scores: Sequence[float | None]) -> None:
        """The scores of the generation last asked for; higher is better."""
