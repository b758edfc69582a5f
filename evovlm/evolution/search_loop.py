"""The search of a study: its candidates evaluated in this process, or by a pool of workers on Ray.

Knows plans' parts, studies and evaluators; no choice of a winner and no held-out table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from evovlm.evaluators.cache import AnswerCache, way_of_asking
from evovlm.evaluators.cached_pool import Asked, CachedPool, PooledAnswers
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import make_judge
from evovlm.evaluators.question import AnswerAll
from evovlm.evaluators.racer import Racer
from evovlm.evaluators.remote import RemoteJob, hashes_of, items_hash
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.choose import AUTOMATIC, Keeping
from evovlm.recipe.schema import Recipe
from evovlm.search import SEARCHERS, Searcher, find_searcher
from evovlm.search.race import RaceSettings
from evovlm.search.space.parameters import search_of
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.loop import OnTrial
from evovlm.study.raced import run_raced
from evovlm.study.sequential import run_sequential
from evovlm.study.steady import Inline, SteadyRun
from evovlm.study.study import Study
from evovlm.system.errors import RecipeError
from evovlm.tasks import Item, Options, parse_split
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.item_sets import ItemSet


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
    items: ItemSet,
    trials: int,
    on_trial: OnTrial,
) -> None:
    """One candidate after another in this process; goes on too where a pool of workers left off."""
    judge = make_judge(evaluator, study.recipe, items)
    if (study.folder / study_log.ASKS).exists():
        SteadyRun(study, stream_of(searcher), Inline(judge)).run(trials, on_trial)
    else:
        run_sequential(study, searcher, judge, trials, on_trial)


def search_raced(
    study: Study,
    searcher: Searcher,
    answer: AnswerAll,
    items: int,
    settings: RaceSettings | None,
    trials: int,
    on_trial: OnTrial,
) -> None:
    """Generations raced over items, by whoever answers; without `settings` all are asked all items.

    At a lower fidelity first, where the recipe has one.
    """
    search = search_of(study.recipe)
    racer = Racer(answer, items, settings or whole_race(items), search.seed, search.fidelity)
    run_raced(study, searcher, racer, trials, on_trial, centers=settings is not None)


def whole_race(items: int) -> RaceSettings:
    """The race that drops nobody: one look, at all items."""
    return RaceSettings(first=items, most=1.0, random=1.0)


def raced_recipe(recipe: Recipe, genes: int) -> Recipe:
    """The recipe as a race searches it: twice the searcher's own population, unless the recipe says how many.

    Few items a candidate and more candidates a generation go together. Raises RecipeError for a searcher that does not
    learn from ranks around a center, for several objectives, and for routes.
    """
    search = search_of(recipe)
    row = find_searcher(search.algorithm)
    if not row.races or search.objectives or search.route is not None:
        choices = " or ".join(f"`algorithm: {name}`" for name, found in sorted(SEARCHERS.items()) if found.races)
        raise RecipeError(
            f"--race: races serve {choices} with one score and no route; leave --race out or change `search`"
        )
    population = search.population or 2 * row.population(genes)
    return recipe.model_copy(update={"search": search.model_copy(update={"population": population})})


def refuse_fidelity(recipe: Recipe) -> None:
    """Raises RecipeError where a lower fidelity would leave objectives without a value."""
    search = search_of(recipe)
    if search.fidelity is not None and search.objectives:
        raise RecipeError("search.fidelity: serves one score; leave out `objectives`, or `fidelity`")


@contextmanager
def pool_on_ray(study: Study, job: RemoteJob, workers: Workers, cache: AnswerCache | None) -> Iterator[CachedPool]:
    """Workers on a Ray cluster for the length of the block. What happens to them goes to the events' log.

    What they answer is kept in `cache`.
    """
    from evovlm.evaluators.ray_pool import RayPool, cluster

    def on_event(event: str, **details: object) -> None:
        study_log.log_event(study.folder, event, **details)

    resource = "GPU" if job.device.startswith("cuda") else "CPU"
    with cluster(workers.address):
        pool = RayPool(job.open, workers=workers.count, resource=resource, limit=workers.limit, on_event=on_event)
        try:
            yield CachedPool(pool, cache, asked_of(study.recipe, Path(job.root), study.item_ids))
        finally:
            pool.close()


def search_on_ray(
    study: Study,
    searcher: Searcher,
    job: RemoteJob,
    workers: Workers,
    trials: int,
    on_trial: OnTrial,
    *,
    cache: AnswerCache | None = None,
    race: RaceSettings | None = None,
) -> None:
    """Candidates on a Ray cluster; nobody waits for the slowest, but in races, where a block waits for its last."""
    if race is not None or search_of(study.recipe).fidelity is not None:
        with pool_on_ray(study, job, workers, cache) as pool:
            answer = PooledAnswers(pool)
            search_raced(study, searcher, answer, len(study.item_ids), race, trials, on_trial)
        return
    with pool_on_ray(study, job, workers, cache) as pool:
        SteadyRun(study, stream_of(searcher), pool).run(trials, on_trial)


def asked_of(recipe: Recipe, root: Path, items: tuple[str, ...]) -> Asked:
    """What a search's questions are about."""
    search, data = search_of(recipe), recipe.data
    assert data is not None
    task, _ = parse_split(data.search, Options(preset=data.preset), root)
    cheaper = task if search.fidelity is None else Cheaper(task, search.fidelity)
    whole, less = way_of_asking(task, data.search), way_of_asking(cheaper, data.search)
    return Asked(whole, less, items, several=bool(search.objectives))


def remote_job(
    recipe: Recipe,
    assembly: Assembly,
    items: Sequence[Item],
    device: str,
    download: bool,
    keeping: Keeping = AUTOMATIC,
) -> RemoteJob:
    """What workers are told. Every model file is read once, for its hash."""
    return RemoteJob(
        recipe=recipe.model_dump_json(by_alias=True),
        root=str(assembly.root.resolve()),
        item_ids=tuple(item.id for item in items),
        items_hash=items_hash(items),
        hashes=hashes_of(assembly),
        device=device.partition(":")[0],  # a worker sees no GPU but its own
        threads=torch.get_num_threads(),
        download=download,
        sources_in=keeping.place,
        eight_bit=keeping.eight_bit,
        caching=not recipe.timed,
    )
