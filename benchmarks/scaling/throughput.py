"""Real workers on this machine: the same zoo study with one and with more CPU workers. Needs the extra evovlm[ray]."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.evaluators.ray_pool import RayPool, cluster
from evovlm.evolution import EvolveSettings, plan_evolution
from evovlm.recipe_file import read_recipe
from evovlm.search.stream import stream_of
from evovlm.searching import remote_job
from evovlm.study import Study
from evovlm.study_steady import SteadyRun

WARMING = 4  # candidates a worker that are not timed


@dataclass(frozen=True)
class Throughput:
    """Candidates a second, loading and the first candidates left out."""

    workers: int
    trials: int
    seconds: float

    @property
    def rate(self) -> float:
        """Candidates a second."""
        return self.trials / self.seconds


def measure(recipe: Path, folder: Path, workers: int, *, items: int, trials: int) -> Throughput:
    """Time `trials` candidates of a recipe's search on workers that are loaded and warm."""
    settings = EvolveSettings(trials=trials, items=items, judged=2)
    plan = plan_evolution(read_recipe(recipe), recipe.parent, settings)
    study = Study.open(folder, plan.recipe, plan.genes, plan.header(), plan.express, plan.assembly.root)
    job = remote_job(plan.recipe, plan.assembly, plan.search_items, "cpu", False)
    joined: list[str] = []
    times: list[float] = []

    def on_event(event: str, **details: Any) -> None:
        if event == "worker joined":
            joined.append(details["worker"])

    with cluster("local"):
        pool = RayPool(job.open, workers=workers, resource="CPU", limit=None, on_event=on_event)
        while len(joined) < workers:
            pool.wait()
        warm = WARMING * workers
        steady = SteadyRun(study, stream_of(plan.searcher()), pool)
        # A few more than are timed, so that all workers are busy to the end.
        steady.run(warm + trials + workers, lambda trial: times.append(time.perf_counter()))
        pool.close()
    return Throughput(workers, trials, times[warm + trials - 1] - times[warm - 1])
