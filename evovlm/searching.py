"""The search of a study: its candidates evaluated in this process, or by a pool of workers on Ray.

Knows plans' parts, studies and evaluators; no choice of a winner and no held-out table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evovlm import study_log
from evovlm.assembly import Assembly
from evovlm.errors import RecipeError
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import make_judge
from evovlm.evaluators.racer import Racer
from evovlm.evaluators.remote import RemoteJob, hashes_of
from evovlm.genome import search_of
from evovlm.mergers import AUTOMATIC, Keeping
from evovlm.race import RaceSettings
from evovlm.recipe import Recipe
from evovlm.search import Searcher
from evovlm.search.cmaes import default_population
from evovlm.search.stream import stream_of
from evovlm.study import OnTrial, Study
from evovlm.study_raced import run_raced
from evovlm.study_steady import Inline, SteadyRun
from evovlm.tasks import Item


@dataclass(frozen=True)
class Workers:
    """Where candidates are evaluated on Ray: a cluster's address, how many workers, how long one may take."""

    address: str
    count: int | None = None  # None: one a GPU, or one a CPU core
    limit: float | None = None  # seconds a candidate


def search_here(
    study: Study,
    searcher: Searcher,
    evaluator: LocalEvaluator,
    items: tuple[Item, ...],
    trials: int,
    on_trial: OnTrial,
) -> None:
    """One candidate after another in this process; goes on too where a pool of workers left off."""
    judge = make_judge(evaluator, study.recipe, items)
    if (study.folder / study_log.ASKS).exists():
        SteadyRun(study, stream_of(searcher), Inline(judge)).run(trials, on_trial)
    else:
        study.run(searcher, judge, trials, on_trial)


def search_raced(
    study: Study,
    searcher: Searcher,
    evaluator: LocalEvaluator,
    items: tuple[Item, ...],
    settings: RaceSettings,
    trials: int,
    on_trial: OnTrial,
) -> None:
    """Generations raced over items in this process."""
    search = search_of(study.recipe)
    run_raced(study, searcher, Racer(evaluator, items, settings, search.seed), trials, on_trial)


def raced_recipe(recipe: Recipe, genes: int) -> Recipe:
    """The recipe as a race searches it: twice CMA-ES's own population, unless the recipe says how many.

    Few items a candidate and more candidates a generation go together. Raises RecipeError for another searcher than
    `cmaes`, which learns from ranks and has a center, for several objectives, and for routes.
    """
    search = search_of(recipe)
    if search.algorithm != "cmaes" or search.objectives or search.route is not None:
        raise RecipeError(
            "--race: races serve `algorithm: cmaes` with one score and no route; leave --race out or change `search`"
        )
    population = search.population or 2 * default_population(genes)
    return recipe.model_copy(update={"search": search.model_copy(update={"population": population})})


def search_on_ray(
    study: Study,
    searcher: Searcher,
    job: RemoteJob,
    workers: Workers,
    trials: int,
    on_trial: OnTrial,
) -> None:
    """Candidates on a Ray cluster; nobody waits for the slowest. What happens to workers goes to the events' log."""
    from evovlm.evaluators.ray_pool import RayPool, cluster

    def on_event(event: str, **details: object) -> None:
        study_log.log_event(study.folder, event, **details)

    resource = "GPU" if job.device.startswith("cuda") else "CPU"
    # Replayed before workers start: a log that does not fit is told at once.
    stream = stream_of(searcher)
    with cluster(workers.address):
        pool = RayPool(job.open, workers=workers.count, resource=resource, limit=workers.limit, on_event=on_event)
        try:
            SteadyRun(study, stream, pool).run(trials, on_trial)
        finally:
            pool.close()


def remote_job(
    recipe: Recipe,
    assembly: Assembly,
    items: tuple[Item, ...],
    device: str,
    download: bool,
    keeping: Keeping = AUTOMATIC,
) -> RemoteJob:
    """What workers are told. Every model file is read once, for its hash."""
    assert recipe.data is not None
    return RemoteJob(
        recipe=recipe.model_dump_json(by_alias=True),
        root=str(assembly.root.resolve()),
        data=recipe.data.search,
        item_ids=tuple(item.id for item in items),
        hashes=hashes_of(assembly),
        device=device,
        threads=torch.get_num_threads(),
        download=download,
        sources_in=keeping.place,
        eight_bit=keeping.eight_bit,
    )
