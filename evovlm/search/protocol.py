"""The inputs and the protocol of every searcher. Knows only numbers.

A searcher is a deterministic function of its settings and of its `tell` calls, in order; this makes a study
resumable by replay. Scores are higher-is-better; the sign is flipped once, inside the searcher.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

Genome = tuple[float, ...]
# One number, or one per objective (all higher-is-better); None marks a failed candidate.
Score = float | tuple[float, ...] | None
# Maps the bits to the indices of the real genes (counted from the first real one) that have an effect with them.
Active = Callable[[Sequence[bool]], Sequence[int]]


@dataclass(frozen=True)
class SearchSettings:
    """The settings of every searcher. Genes are in [0, 1].

    population: candidates per generation; None for the searcher's own default. start: where the search starts, one
    number for all genes or one per gene. sigma: the initial step size. bits: how many genes, from the first, are yes
    (above 0.5) or no. switch: the number of trials after which a two-stage search changes from bits to reals.
    objectives: numbers per score. active: see `Active`; None if every real gene always has an effect.
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
        """The start as a float64 vector [genes]."""
        return np.broadcast_to(np.asarray(self.start, dtype=float), (self.genes,)).copy()

    @property
    def chances(self) -> np.ndarray:
        """The initial probability of each bit [bits]: that a normal step of sigma from the start exceeds 0.5."""
        return np.array([0.5 * (1 + math.erf((at - 0.5) / (self.sigma * 2**0.5))) for at in self.center[: self.bits]])

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """`count` initial genomes [count, genes]: bits drawn by `chances`, reals by a clipped normal step."""
        bits = generator.random((count, self.bits)) < self.chances
        reals = generator.normal(self.center[self.bits :], self.sigma, (count, self.genes - self.bits))
        return np.concatenate([bits.astype(float), reals.clip(0.0, 1.0)], axis=1)


class Searcher(Protocol):
    """Ask for a generation, then tell all its scores in the same order. None marks a failed candidate.

    After the first generation, `rounded_from` is the first gene that may be another on another processor: directions in
    which a covariance is the same everywhere have no axes of their own, and rounding chooses them. A searcher without
    this attribute uses no linear algebra. One with it learns from the genomes that `tell` is given, and these may be
    others than it asked for: those that another processor made and a study logged.
    """

    def ask(self) -> list[Genome]:
        """The next generation's genomes, each in the unit cube."""

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation asked for; higher is better."""


@runtime_checkable
class Distribution(Searcher, Protocol):
    """A searcher that can draw single points and learn from any of them, so it needs no generations (CMA-ES)."""

    @property
    def population(self) -> int:
        """Results per update."""

    def draw(self, count: int) -> list[np.ndarray]:
        """`count` points [dimensions] from the current distribution."""

    def genome_of(self, point: np.ndarray) -> Genome:
        """The genome for a drawn point."""

    def point_of(self, genome: Genome) -> np.ndarray:
        """A point with that genome, to learn from in place of a drawn one."""

    def learn(self, points: Sequence[np.ndarray], scores: Sequence[Score]) -> None:
        """Make one update from `population` drawn points, which may come from earlier distributions."""


def exact_genes(searcher: object, genes: int) -> int:
    """How many of a candidate's genes, from the first, are the same on every processor: see `Searcher`."""
    found: int = getattr(searcher, "rounded_from", genes)
    return found


def losses_of(scores: Sequence[Score], objectives: int = 1) -> np.ndarray:
    """Lower-is-better losses [candidates, objectives]; a failed candidate is the worst in each objective."""
    rows = [_row(score, objectives) for score in scores]
    good = [row for row in rows if row is not None]
    worst = np.max(good, axis=0) + 1.0 if good else np.ones(objectives)
    return np.array([worst if row is None else row for row in rows])


def _row(score: Score, objectives: int) -> np.ndarray | None:
    if score is None:
        return None
    values = np.atleast_1d(np.asarray(score, dtype=float))[:objectives]
    return -values if bool(np.isfinite(values).all()) else None
