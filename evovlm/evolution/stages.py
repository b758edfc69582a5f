"""Studies in stages: parameter space first, then data-flow space over the sources and the first stage's merges.

Knows evolution and builds; no command line. The study's folder is the last stage's, so that its log, best recipe and
report are the result of the whole study; the first stage is in `stage-1`, the models that it built in `pool`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.evolution.run import evolve
from evovlm.merging.assembly import with_recipe
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.schema import Recipe, Source
from evovlm.study import log as study_log
from evovlm.study.header import recipe_of
from evovlm.study.result import Finalist, Result
from evovlm.system.errors import RecipeError
from evovlm.system.progress import Progress, Watch, busy, part_of

FIRST, POOL = study_log.STAGES


def plan_first(recipe: Recipe, root: Path, settings: EvolveSettings) -> Plan:
    """The plan of a recipe's first (or only) stage. Raises UserError if something does not fit in any stage."""
    if recipe.then is None:
        return plan_evolution(recipe, root, settings)
    if recipe.search is None or recipe.search.route is not None:
        raise RecipeError("then: the first stage searches weights and densities; give `search` without `route`")
    if recipe.then.search.route is None:
        raise RecipeError("then.search.route: the second stage searches routes; give at least `route: {}`")
    # The first stage's merges will have the owner's shape, so the owner serves as a placeholder for them.
    first = next((source for source in recipe.sources if source.name == recipe.owner), recipe.sources[0])
    bred = [first.model_copy(update={"name": name}) for name in bred_names(recipe, recipe.then.winners)]
    plan_evolution(second_stage(recipe, bred), root, settings)
    return plan_evolution(recipe.model_copy(update={"then": None}), root, replace(settings, checkpoint=False))


def evolve_stages(recipe: Recipe, root: Path, settings: EvolveSettings, out: Path, watch: Watch) -> Result:
    """Run all stages of a recipe in the folder `out`; returns the content of its `result.json`.

    Call it again to resume, in either stage.
    """
    with busy(watch, "checking recipe, models and data"):
        plan = plan_first(recipe, root, settings)
    if recipe.then is None:
        return evolve(plan, out, watch)
    if (out / study_log.HEADER).exists():
        study_log.read_header(out)  # a second stage that cannot be resumed is reported before the first one runs
    result = evolve(plan, out / FIRST, watch)
    assert result.selection is not None
    bred = breed(plan, out, result.selection.finalists, recipe.then.winners, watch)
    with busy(watch, "checking the second stage"):
        second = plan_evolution(second_stage(recipe, bred), root, settings)
    return evolve(second, out, watch)


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


def breed(plan: Plan, out: Path, finalists: Sequence[Finalist], winners: int, watch: Watch) -> list[Source]:
    """Build the first stage's `winners` best candidates, ranked on fresh items, as models in `pool`."""
    trials = study_log.read_trials(out / FIRST)
    known = _identities(out)
    finalists = sorted(finalists, key=lambda finalist: (-finalist.choice_score, finalist.trial))
    watch.phase("pool", min(winners, len(finalists)))
    bred = []
    for name, finalist in zip(bred_names(plan.recipe, winners), finalists, strict=False):
        winner = plan.express(plan.recipe, plan.genes, trials[finalist.trial].genome)
        # Named by its digest: if the first stage is extended, it may choose another winner.
        folder = out / POOL / winner.digest()[:12]
        if not folder.exists():
            build_checkpoint(with_recipe(plan.assembly, winner), folder, progress=_megabytes(watch, finalist.trial))
        model = os.path.relpath(folder.resolve(), plan.assembly.root.resolve())
        identity = known.get(folder.name, f"{POOL}/{folder.name}")
        bred.append(Source(name=name, model=model, identity=None if identity == model else identity))
        watch.step(f"trial {finalist.trial}", score=finalist.choice_score)
    return bred


def _megabytes(watch: Watch, trial: int) -> Progress:
    """Report a build's bytes in MB, as part of a step."""
    part = part_of(watch, f"trial {trial}, MB")
    return lambda done, total: part(done // 10**6, total // 10**6)


def _identities(out: Path) -> dict[str, str]:
    """How the second stage's header, if there is one, identifies the models in `pool`, by the names of their folders.

    Earlier versions identified a model by its path from the recipe's folder, which changes if the study is moved.
    """
    if not (out / study_log.HEADER).exists():
        return {}
    header = study_log.read_header(out)
    named = [source.identity or source.model for source in recipe_of(out, header).sources]
    paths = [PurePosixPath(name) for name in named]
    return {path.name: str(path) for path in paths if path.parent.name == POOL}
