"""Real workers on this machine: the same zoo study with one and with more CPU workers. Needs the extra evovlm[ray]."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.cached_pool import CachedPool
from evovlm.evaluators.ray_pool import RayPool, cluster
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.search_loop import asked_of, remote_job
from evovlm.recipe.shipped import named_recipe
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.steady import SteadyRun
from evovlm.study.study import Study

WARMING = 4  # untimed warm-up candidates per worker


@dataclass(frozen=True)
class Throughput:
    """Throughput without loading and warm-up.

    `busy`: the share of the workers' time spent on candidates (merge, answer, score); other load on the machine slows
    candidates down but does not change this share.
    """

    workers: int
    trials: int
    seconds: float
    busy: float

    @property
    def rate(self) -> float:
        """Candidates per second."""
        return self.trials / self.seconds


def measure(recipe_name: str, folder: Path, workers: int, *, items: int, trials: int) -> Throughput:
    """Time `trials` candidates of a recipe's search on warmed-up workers."""
    settings = EvolveSettings(trials=trials, items=items, judged=2)
    recipe = named_recipe(recipe_name)
    plan = plan_evolution(recipe, recipe.root, settings)
    study = Study.open(folder, plan.recipe, plan.genes, plan.header(), plan.express, plan.assembly.root)
    job = remote_job(plan.recipe, plan.assembly, plan.search_items, "cpu", False)
    joined: list[str] = []
    times: list[float] = []
    worked: list[float] = []

    def on_trial(trial: Trial) -> None:
        times.append(time.perf_counter())
        worked.append(sum(trial.seconds.values()))

    def on_event(event: str, **details: Any) -> None:
        if event == "worker joined":
            joined.append(details["worker"])

    with cluster("local"):
        own = RayPool(job.open, workers=workers, resource="CPU", limit=None, on_event=on_event)
        while len(joined) < workers:
            own.wait()
        cache = AnswerCache(folder / study_log.CACHE)
        pool = CachedPool(own, cache, asked_of(plan.recipe, plan.assembly.root, job.item_keys))
        warm = WARMING * workers
        steady = SteadyRun(study, stream_of(plan.searcher()), pool)
        # A few more candidates than are timed keep all workers busy to the end.
        steady.run(warm + trials + workers, on_trial)
        own.close()
    seconds = times[warm + trials - 1] - times[warm - 1]
    busy = sum(worked[warm : warm + trials]) / (workers * seconds)
    return Throughput(workers, trials, seconds, round(busy, 3))
