"""What every searcher is given and must do. Knows numbers alone.

A searcher is a deterministic function of its settings and of what it was told, in order; that is what makes
a study resumable by replay. Scores are higher-is-better; the sign is flipped inside a searcher, once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

Genome = tuple[float, ...]
# One number, or one an objective (all higher-is-better); None marks a failed candidate.
Score = float | tuple[float, ...] | None
# Which of the real genes (counted from the first real one) mean anything beside these bits.
Active = Callable[[Sequence[bool]], Sequence[int]]


@dataclass(frozen=True)
class SearchSettings:
    """What every searcher is given. Genes lie in [0, 1].

    population: None for the searcher's own default. start: where the search begins, one number for all genes or one
    a gene. sigma: its first step. bits: the first so many genes are yes or no, yes above 0.5. switch: after how many
    trials a search in two stages turns from bits to reals. objectives: numbers a score. active: see `Active`; None
    where every real gene always means something.
    """

    genes: int
    population: int | None = None
    start: float | tuple[float, ...] = 0.5
    sigma: float = 1 / 6
    seed: int = 0
    bits: int = 0
    switch: int = 0
    objectives: int = 1
    active: Active | None = None

    @property
    def center(self) -> np.ndarray:
        """The start as a vector [genes]."""
        return np.broadcast_to(np.asarray(self.start, dtype=float), (self.genes,)).copy()

    @property
    def chances(self) -> np.ndarray:
        """How likely each bit is set at the start [bits]: what a normal step of sigma from the start would give."""
        return np.array([0.5 * (1 + math.erf((at - 0.5) / (self.sigma * 2**0.5))) for at in self.center[: self.bits]])

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """`count` genomes [count, genes] as a search begins: bits by their chances, reals by a clipped normal step."""
        bits = generator.random((count, self.bits)) < self.chances
        reals = generator.normal(self.center[self.bits :], self.sigma, (count, self.genes - self.bits))
        return np.concatenate([bits.astype(float), reals.clip(0.0, 1.0)], axis=1)


class Searcher(Protocol):
    """Ask for a generation, tell all its scores, in the order asked. None marks a failed candidate."""

    def ask(self) -> list[Genome]:
        """The next generation's genomes, each in the unit cube."""

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """The scores of the generation last asked for; higher is better."""


@runtime_checkable
class Distribution(Searcher, Protocol):
    """A searcher that draws single points and learns from any of them, so that it needs no generations (CMA-ES)."""

    @property
    def population(self) -> int:
        """Results an update."""

    def draw(self, count: int) -> list[np.ndarray]:
        """`count` points [dimensions] from the present distribution."""

    def genome_of(self, point: np.ndarray) -> Genome:
        """The genome that a drawn point stands for."""

    def learn(self, points: Sequence[np.ndarray], scores: Sequence[Score]) -> None:
        """One update from `population` drawn points, which may come from earlier distributions."""


def losses_of(scores: Sequence[Score], objectives: int = 1) -> np.ndarray:
    """Lower-is-better losses [candidates, objectives]; a failed candidate is worse than every other in each."""
    rows = [_row(score, objectives) for score in scores]
    good = [row for row in rows if row is not None]
    worst = np.max(good, axis=0) + 1.0 if good else np.ones(objectives)
    return np.array([worst if row is None else row for row in rows])


def _row(score: Score, objectives: int) -> np.ndarray | None:
    if score is None:
        return None
    values = np.atleast_1d(np.asarray(score, dtype=float))[:objectives]
    return -values if bool(np.isfinite(values).all()) else None
