"""Studies in stages: parameter space first, then data-flow space over the sources and the first stage's merges.

Knows evolution and builds; no command line. The study's folder is the last stage's, so that its log, best recipe and
report are the result of the whole study; the first stage is in `stage-1`, the models that it built in `pool`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from evovlm.evaluators.ray_settings import refuse_settings
from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.merging.assembly import with_recipe
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.schema import Recipe, Source
from evovlm.study import log as study_log
from evovlm.study.header import recipe_of
from evovlm.study.result import Finalist, Result
from evovlm.system.device import gpu_named
from evovlm.system.errors import RecipeError, StudyError
from evovlm.system.progress import Progress, Watch, busy, part_of, tell

FIRST, POOL = study_log.STAGES
FOLDER_DIGITS = 12  # of a merge's digest, in the name of its folder


def plan_stages(recipe: Recipe, root: Path, settings: EvolveSettings) -> tuple[Plan, Plan | None]:
    """The plans of a recipe's first (or only) stage and of its second, in which owners stand for the merges to come.

    Raises UserError if something does not fit in any stage.
    """
    if recipe.then is None:
        return plan_evolution(recipe, root, settings), None
    if recipe.search is None or recipe.search.route is not None:
        raise RecipeError("then: the first stage searches weights and densities; give `search` without `route`")
    if recipe.then.search.route is None:
        raise RecipeError("then.search.route: the second stage searches routes; give at least `route: {}`")
    # The first stage's merges will have the owner's shape, so the owner serves as a placeholder for them.
    first = next((source for source in recipe.sources if source.name == recipe.owner), recipe.sources[0])
    bred = [first.model_copy(update={"name": name}) for name in bred_names(recipe, recipe.then.winners)]
    second = _plan_second(recipe, bred, root, settings)
    alone = recipe.model_copy(update={"then": None})
    return plan_evolution(alone, root, replace(settings, checkpoint=False)), second


def _plan_second(recipe: Recipe, bred: Sequence[Source], root: Path, settings: EvolveSettings) -> Plan:
    """The second stage's plan; errors in its `search` are called by their key in the recipe, `then.search`."""
    try:
        return plan_evolution(second_stage(recipe, bred), root, settings)
    except RecipeError as error:
        if type(error) is RecipeError and str(error).startswith("search."):
            raise RecipeError(f"then.{error}") from error
        raise


def evolve_stages(recipe: Recipe, root: Path, settings: EvolveSettings, out: Path, watch: Watch) -> Result:
    """Run all stages of a recipe in the folder `out`; returns the content of its `result.json`.

    Call it again to resume, in either stage.
    """
    with busy(watch, "checking recipe, models and data"):
        plan, _ = plan_stages(recipe, root, settings)
    if settings.workers is not None:
        with busy(watch, "looking for the Ray cluster"):
            refuse_settings()
            from evovlm.evaluators.ray_pool import refuse_unanswered  # Ray is optional

            refuse_unanswered(settings.workers.address)
    if recipe.then is None:
        return evolve(plan, out, watch)
    # Read now, so that a second stage that cannot be resumed is reported before the first one runs.
    begun = (out / study_log.HEADER).exists()
    pool = _pool_of(out, recipe) if begun else []
    if begun:
        plan = _as_far_as_it_was(plan, out, watch)
    result = evolve(plan, out / FIRST, watch)
    assert result.selection is not None
    winners = min(recipe.then.winners, len(result.selection.finalists))
    if begun and len(pool) != winners:
        raise StudyError(
            f"{out / study_log.HEADER}: the second stage searches {len(pool)} merges of the first, and `then.winners`"
            f" asks for {winners} now; resume with the original recipe, or choose a new folder with --out"
        )
    bred = rebreed(plan, out, pool, watch) if begun else breed(plan, out, result.selection.finalists, winners, watch)
    with busy(watch, "checking the second stage"):
        second = _plan_second(recipe, bred, root, settings)
    return evolve(second, out, watch)


def _as_far_as_it_was(plan: Plan, out: Path, watch: Watch) -> Plan:
    """The plan of a first stage whose second has begun: it gets no more trials, which could choose other merges."""
    done = len(study_log.read_trials(out / FIRST))
    if done >= plan.trials or done == 0:
        return plan
    tell(
        watch,
        f"{out / FIRST}: stays at {done} trials, because the second stage searches the merges that they chose; for more"
        " trials of the first stage choose a new folder with --out",
    )
    return replace(plan, trials=done)


def bred_names(recipe: Recipe, count: int) -> list[str]:
    """Names for the first stage's `count` best merges: `ps1`, `ps2`, ..., leaving out names that sources have."""
    free = (name for number in itertools.count(1) if (name := f"ps{number}") not in recipe.source_names)
    return list(itertools.islice(free, count))


def second_stage(recipe: Recipe, bred: Sequence[Source]) -> Recipe:
    """The recipe of the second stage: routes through the sources and the first stage's merges.

    The first of those merges provides embeddings, head and (for a VLM) the vision tower.
    """
    assert recipe.then is not None
    keep = recipe.source_names if recipe.then.keep is None else recipe.then.keep
    kept = [source for source in recipe.sources if source.name in keep or source.name == recipe.owner]
    return Recipe(
        kind=recipe.kind,
        sources=(*bred, *(kept or recipe.sources)),
        owner=bred[0].name,
        method="passthrough",
        vocab=recipe.vocab,
        dtype=recipe.dtype,
        seed=recipe.seed,
        search=recipe.then.search,
        data=recipe.data,
    )


@dataclass(frozen=True)
class Bred:
    """A merge of the first stage in the second one's header: its name, its folder in `pool`, how it is identified."""

    name: str
    folder: str
    identity: str


def breed(plan: Plan, out: Path, finalists: Sequence[Finalist], winners: int, watch: Watch) -> list[Source]:
    """Build the first stage's `winners` best candidates, ranked on fresh items, as models in `pool`."""
    trials = study_log.read_trials(out / FIRST)
    finalists = sorted(finalists, key=lambda finalist: (-finalist.choice_score, finalist.trial))[:winners]
    watch.phase("pool", len(finalists))
    bred = []
    for name, finalist in zip(bred_names(plan.recipe, winners), finalists, strict=True):
        winner = plan.express(plan.recipe, plan.genes, trials[finalist.trial].genome)
        # Named by its digest: if the first stage is extended, it may choose another winner.
        folder = winner.digest()[:FOLDER_DIGITS]
        made = Bred(name, folder, f"{POOL}/{folder}")
        bred.append(_built(plan, out, made, winner, _megabytes(watch, f"trial {finalist.trial}")))
        watch.step(f"trial {finalist.trial}", score=finalist.choice_score)
    return bred


def rebreed(plan: Plan, out: Path, pool: Sequence[Bred], watch: Watch) -> list[Source]:
    """The merges that the second stage was begun with; those that are missing in `pool` are built again.

    Raises StudyError if a missing one is no candidate of the first stage's log.
    """
    watch.phase("pool", len(pool))
    candidates: dict[str, Recipe] = {}
    if not all((out / POOL / one.folder).exists() for one in pool):
        logged = [plan.express(plan.recipe, plan.genes, one.genome) for one in study_log.read_trials(out / FIRST)]
        candidates = {recipe.digest()[:FOLDER_DIGITS]: recipe for recipe in logged}
    bred = []
    for one in pool:
        bred.append(_built(plan, out, one, candidates.get(one.folder), _megabytes(watch, one.name)))
        watch.step(one.name)
    return bred


def _built(plan: Plan, out: Path, one: Bred, recipe: Recipe | None, progress: Progress) -> Source:
    """A merge of the first stage as a source of the second; it is built if it is not in `pool`."""
    folder = out / POOL / one.folder
    if not folder.exists():
        if recipe is None:
            raise StudyError(
                f"{folder}: missing, and {out / FIRST / study_log.TRIALS} has no such candidate; restore the folder, or"
                " choose a new folder with --out"
            )
        gpu = gpu_named(plan.settings.device)
        build_checkpoint(with_recipe(plan.assembly, recipe), folder, progress=progress, device=gpu)
    model = os.path.relpath(folder.resolve(), plan.assembly.root.resolve())
    return Source(name=one.name, model=model, identity=None if one.identity == model else one.identity)


def _megabytes(watch: Watch, title: str) -> Progress:
    """Report a build's bytes in MB, as part of a step."""
    part = part_of(watch, f"{title}, MB")
    return lambda done, total: part(done // 10**6, total // 10**6)


def _pool_of(out: Path, recipe: Recipe) -> list[Bred]:
    """The merges that the second stage's header names beside the recipe's own sources, the best one first.

    Earlier versions identified a model by its path from the recipe's folder, which changes if the study is moved.
    """
    sources = recipe_of(out, study_log.read_header(out)).sources
    paths = [(source.name, PurePosixPath(source.identity or source.model)) for source in sources]
    return [Bred(name, path.name, str(path)) for name, path in paths if name not in recipe.source_names]
