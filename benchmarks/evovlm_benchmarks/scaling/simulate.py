"""The scheduler alone: a real steady-state study with simulated workers, whose work is a duration on a simulated clock.

Knows studies and durations; no models and no cluster. The driver's own time (ask, log, tell) is measured and added to
the clock, so that a driver that cannot keep up is visible.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evovlm.evaluators.cache import AnswerCache, CarriedAnswers, way_of_asking
from evovlm.evaluators.cached_pool import Asked, CachedPool, Request, Response
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.pool import Outcome
from evovlm.recipe.schema import Recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.space.parameters import genes_of
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.steady import SteadyRun
from evovlm.study.study import Study
from evovlm.tasks import load_task

RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "a/base"},
        "sources": [{"name": name, "model": f"a/{name}"} for name in ("one", "two")],
        "method": "dare_ties",
        "groups": 4,
        "search": {},
    }
)
WAY = way_of_asking(load_task("zoo-maths"), "zoo-maths:search")
ITEMS = tuple(f"item-{number:03d}" for number in range(150))


@dataclass(frozen=True)
class Scaling:
    """A simulation's result. `efficiency`: busy seconds over workers times elapsed seconds."""

    workers: int
    trials: int
    seconds: float
    efficiency: float
    speedup: float
    driver_seconds: float
    untold: int  # results that came too late to be passed to the searcher


class SimulatedPool:
    """Workers on a clock that jumps to the next result; the driver's own time is added as measured."""

    def __init__(self, workers: int, durations: Sequence[float], rng: np.random.Generator) -> None:
        self.size = workers
        self.clock = 0.0
        self.busy = 0.0
        self.driver = 0.0
        self._durations = durations
        self._rng = rng
        self._running: list[tuple[float, int]] = []
        self._digests: dict[int, str] = {}
        self._entered = time.perf_counter()

    def free(self) -> int:
        """The number of idle workers."""
        return self.size - len(self._running)

    def submit(self, ticket: int, work: Request) -> None:
        """Start a candidate with a duration drawn from the recorded ones."""
        duration = float(self._rng.choice(self._durations))
        self._count_driver()
        self.busy += duration
        heapq.heappush(self._running, (self.clock + duration, ticket))
        self._digests[ticket] = Recipe.model_validate_json(work.recipe).digest()
        self._entered = time.perf_counter()  # computing the digest is the worker's job, so not driver time

    def wait(self) -> Sequence[Outcome]:
        """The next result, and all others that are ready by then."""
        self._count_driver()
        self.clock = max(self.clock, self._running[0][0])
        came = []
        while self._running and self._running[0][0] <= self.clock:
            came.append(self._outcome(heapq.heappop(self._running)[1]))
        self._entered = time.perf_counter()
        return came

    def _outcome(self, ticket: int) -> Outcome:
        """An evaluation with an answer to each item."""
        carried = CarriedAnswers()
        made = _evaluation(float(self._rng.random()))
        carried.keep(WAY, self._digests.pop(ticket), ITEMS, made)
        return Outcome(ticket, Response(made, tuple(carried.made)), "simulated")

    def _count_driver(self) -> None:
        now = time.perf_counter()
        self.driver += now - self._entered
        self.clock += now - self._entered
        self._entered = now


def simulate(folder: Path, workers: int, durations: Sequence[float], trials: int, seed: int = 0) -> Scaling:
    """Run a study of `trials` candidates in a new folder with simulated workers; answers go to its cache.

    `durations`: seconds per candidate, to draw from.
    """
    genes = genes_of(RECIPE, 8)
    header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": list(ITEMS)}, "versions": {}}
    study = Study.open(folder, RECIPE, genes, header)
    searcher = make_searcher("cmaes", SearchSettings(len(genes), None, 0.5, 1 / 6, seed))
    pool = SimulatedPool(workers, durations, np.random.default_rng(seed))
    cache = AnswerCache(folder / study_log.CACHE)
    kept = CachedPool(pool, cache, Asked(WAY, WAY, ITEMS, several=False))
    SteadyRun(study, stream_of(searcher), kept).run(trials, lambda trial: None)
    cache.close()
    return Scaling(
        workers=workers,
        trials=trials,
        seconds=pool.clock,
        efficiency=pool.busy / (workers * pool.clock),
        speedup=pool.busy / pool.clock,
        driver_seconds=pool.driver,
        untold=sum(not trial.told for trial in study.trials),
    )


def _evaluation(score: float) -> Evaluation:
    count = len(ITEMS)
    return Evaluation((score,) * count, (False,) * count, ("an answer of a few words",) * count)
