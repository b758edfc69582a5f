"""The search of a study: its candidates are evaluated in this process, or by a pool of Ray workers.

Knows parts of plans, studies and evaluators; no choice of a winner and no held-out table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from evovlm.evaluators.cache import AnswerCache, asks_several, way_of_asking
from evovlm.evaluators.cached_pool import Asked, CachedPool, PooledAnswers
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import make_judge
from evovlm.evaluators.question import AnswerAll
from evovlm.evaluators.racer import OnAnswers, Racer
from evovlm.evaluators.remote import RemoteJob, hashing
from evovlm.merging.assembly import Assembly
from evovlm.merging.live.choose import AUTOMATIC, Keeping
from evovlm.recipe.schema import Recipe
from evovlm.search import Searcher, find_searcher, why_no_race
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
from evovlm.system.progress import Progress
from evovlm.tasks import Options, parse_split
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.item_sets import ItemSet, items_hash


@dataclass(frozen=True)
class Workers:
    """Evaluation on Ray: the cluster's address, the number of workers, and the time limit per candidate."""

    address: str
    count: int | None = None  # None: one per GPU or per CPU core
    limit: float | None = None  # seconds per candidate


def search_here(
    study: Study,
    searcher: Searcher,
    evaluator: LocalEvaluator,
    items: ItemSet,
    trials: int,
    on_trial: OnTrial,
    objectives: Mapping[str, ItemSet] | None = None,
    progress: Progress | None = None,
) -> None:
    """Evaluate one candidate after another in this process; can also resume a study started by a pool of workers.

    `objectives`: see `make_judge`. `progress`: see `LocalEvaluator.evaluate`.
    """
    judge = make_judge(evaluator, study.recipe, items, objectives, progress)
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
    on_answers: OnAnswers | None = None,
) -> None:
    """Race each generation's candidates over items, answered by `answer`; without `settings` all are asked all items.

    If the recipe has a lower fidelity, candidates are first evaluated at that fidelity. on_answers: see `Racer`.
    """
    search, pictures = search_of(study.recipe), _rounds_of(study)
    race = settings or whole_race(items)
    racer = Racer(answer, items, race, search.seed, search.fidelity, pictures, on_answers)
    auto = search.fidelity is not None and search.fidelity.auto
    run_raced(study, searcher, racer, trials, on_trial, centers=settings is not None, auto=auto)


def _rounds_of(study: Study) -> tuple[int, ...]:
    """The number of each item's picture if the recipe draws whole pictures, else none: studies of before race items."""
    whole = study.recipe.data is not None and study.recipe.data.whole_pictures
    return study.pictures if whole else ()


def whole_race(items: int) -> RaceSettings:
    """A race that drops no candidate: one test, after all items."""
    return RaceSettings(first=items, most=1.0, random=1.0)


def raced_recipe(recipe: Recipe, genes: int, asked_by: str = "--race") -> Recipe:
    """The recipe with the population of a race: twice the searcher's default, unless the recipe sets it.

    With few items per candidate, a generation can have more candidates. `asked_by` is the option or key that asks for
    the race. Raises RecipeError for a searcher that does not learn from ranks around a center, for several objectives,
    and for routes.
    """
    search = search_of(recipe)
    row = find_searcher(search.algorithm)
    why = why_no_race(search)
    if why is not None:
        without = "leave --race out" if asked_by == "--race" else "set it to false or give --no-race"
        raise RecipeError(f"{asked_by}: {why}; {without}, or change `search`")
    population = search.population or 2 * row.population(genes)
    return recipe.model_copy(update={"search": search.model_copy(update={"population": population})})


@contextmanager
def pool_on_ray(study: Study, job: RemoteJob, workers: Workers, cache: AnswerCache | None) -> Iterator[CachedPool]:
    """Start workers on a Ray cluster for the duration of the block. Their events go to the study's events log.

    Their answers are kept in `cache`.
    """
    from evovlm.evaluators.ray_pool import RayPool, cluster

    def on_event(event: str, **details: object) -> None:
        study_log.log_event(study.folder, event, **details)

    resource = "GPU" if job.device.startswith("cuda") else "CPU"
    with cluster(workers.address):
        pool = RayPool(job.open, workers=workers.count, resource=resource, limit=workers.limit, on_event=on_event)
        try:
            yield CachedPool(pool, cache, asked_of(study.recipe, Path(job.root), job.item_keys))
        finally:
            pool.close()


def search_on_ray(
    study: Study,
    searcher: Searcher,
    job: RemoteJob,
    workers: Workers,
    trials: int,
    on_trial: OnTrial,
    on_answers: OnAnswers | None = None,
    *,
    cache: AnswerCache | None = None,
    race: RaceSettings | None = None,
) -> None:
    """Evaluate candidates on a Ray cluster. Only in races do workers wait for the slowest, once per block.

    on_answers: of races, see `Racer`.
    """
    if race is not None or search_of(study.recipe).fidelity is not None:
        with pool_on_ray(study, job, workers, cache) as pool:
            answer = PooledAnswers(pool)
            search_raced(study, searcher, answer, len(study.item_ids), race, trials, on_trial, on_answers)
        return
    with pool_on_ray(study, job, workers, cache) as pool:
        SteadyRun(study, stream_of(searcher), pool).run(trials, on_trial)


def asked_of(recipe: Recipe, root: Path, items: tuple[str, ...]) -> Asked:
    """How a search asks its items (in full and at lower fidelity); `items`: their keys."""
    search, data = search_of(recipe), recipe.data
    assert data is not None
    task, _ = parse_split(data.search, Options(preset=data.preset), root)
    cheaper = task if search.fidelity is None else Cheaper(task, search.fidelity)
    whole, less = (way_of_asking(one, data.search, several=asks_several(recipe)) for one in (task, cheaper))
    return Asked(whole, less, items, several=bool(search.objectives))


def remote_job(
    recipe: Recipe,
    assembly: Assembly,
    items: ItemSet,
    device: str,
    download: bool,
    keeping: Keeping = AUTOMATIC,
    hashes: Mapping[str, str] | None = None,
    *,
    self_check: bool = True,
) -> RemoteJob:
    """The job description for the workers. `hashes`: of the models' files; None: computed here."""
    return RemoteJob(
        recipe=recipe.model_dump_json(by_alias=True),
        root=str(assembly.root.resolve()),
        item_ids=tuple(item.id for item in items),
        item_keys=tuple(item.key for item in items),
        items_hash=items_hash(items),
        hashes=hashing(assembly).result() if hashes is None else hashes,
        device=device.partition(":")[0],  # a worker sees only its own GPU
        threads=torch.get_num_threads(),
        download=download,
        sources_in=keeping.place,
        eight_bit=keeping.eight_bit,
        caching=not recipe.timed,
        self_check=self_check,
    )
