"""Two stages: a genetic algorithm for the bits, then CMA-ES for the reals of the best bits.

Knows only numbers. Only the reals that have an effect with those bits are searched; the others stay at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evovlm.search.protocol import Genome, Score, Searcher, SearchSettings, losses_of
from evovlm.search.searchers.cmaes import CMAES
from evovlm.search.searchers.ga import Genetic


class TwoStage:
    """One stage after the other; the second starts after the generation in which `switch` trials are reached.

    Example with two bits and two reals: best are both bits set and both reals at 0.7.

    >>> from evovlm.search import SearchSettings
    >>> searcher = TwoStage(SearchSettings(genes=4, bits=2, switch=10))
    >>> for _ in range(40):
    ...     genomes = searcher.ask()
    ...     scores = [a + b - (x - 0.7) ** 2 - (y - 0.7) ** 2 for a, b, x, y in genomes]
    ...     searcher.tell(genomes, scores)
    >>> [round(gene, 2) for gene in searcher.ask()[0]]
    [1.0, 1.0, 0.7, 0.7]
    """

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._rest = tuple(map(float, settings.center[settings.bits :]))
        self._scored = 0
        self._best: tuple[float, Genome] | None = None
        self._places: Sequence[int] = ()
        self._searcher: Searcher | None = None
        if settings.bits:
            self._stage: Searcher = Genetic(
                replace(settings, genes=settings.bits, start=tuple(map(float, settings.center[: settings.bits])))
            )
        else:
            self._turn(())

    @property
    def rounded_from(self) -> int:
        """See `Searcher`: none of its bits, and the reals of the second stage."""
        return self._settings.genes if self._searcher is None else self._settings.bits

    def ask(self) -> list[Genome]:
        """The next generation: new bits with the reals at the start, or the best bits with new reals."""
        asked = self._stage.ask()
        if self._searcher is None:
            return [genome + self._rest for genome in asked]
        return [self._whole(genome) for genome in asked]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation, higher is better."""
        bits = self._settings.bits
        for genome, loss in zip(genomes, losses_of(scores)[:, 0], strict=True):
            if self._best is None or float(loss) < self._best[0]:
                self._best = (float(loss), genome)
        if self._searcher is None:
            self._stage.tell([genome[:bits] for genome in genomes], scores)
        else:
            self._stage.tell([tuple(genome[bits + place] for place in self._places) for genome in genomes], scores)
        self._scored += len(scores)
        if self._searcher is None and self._scored >= self._settings.switch and self._best is not None:
            self._turn(self._best[1][:bits])

    def _turn(self, chosen: Genome) -> None:
        """Start the second stage, if there are reals to search with these bits."""
        settings = self._settings
        reals = settings.genes - settings.bits
        flags = [bit > 0.5 for bit in chosen]
        self._places = settings.active(flags) if settings.active is not None else range(reals)
        if not self._places:
            return
        start = tuple(self._rest[place] for place in self._places)
        self._chosen = chosen
        self._searcher = self._stage = CMAES(
            replace(settings, genes=len(self._places), bits=0, start=start, active=None)
        )

    def _whole(self, genome: Genome) -> Genome:
        reals = list(self._rest)
        for place, value in zip(self._places, genome, strict=True):
            reals[place] = value
        return self._chosen + tuple(reals)
