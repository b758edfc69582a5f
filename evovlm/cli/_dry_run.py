"""`evolve --dry-run`: what a search would do, and what it would take. Writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from evovlm.system.errors import CandidateFault, CheckpointError
from evovlm.system.progress import Watch, busy

if TYPE_CHECKING:
    from evovlm.evolution.forecast import Forecast, Pace
    from evovlm.evolution.plan import EvolveSettings, Plan
    from evovlm.recipe.schema import Recipe

GENES_SHOWN = 12


def dry_run(recipe: Recipe, out: Path, settings: EvolveSettings, measured: bool | None, watch: Watch) -> None:
    """Print plan and forecast. `measured`: load the models for it; None: if they are small.

    Raises what `plan_stages` raises; if models of the hub are not here, after a forecast from past runs.
    """
    from evovlm.cli.console import OUT
    from evovlm.evolution.forecast import forecast, parameters_by_name, scope_of_absent
    from evovlm.evolution.past_runs import past_pace
    from evovlm.evolution.stages import plan_stages

    try:
        with busy(watch, "checking recipe, models and data"):
            plan, second = plan_stages(recipe, recipe.root, settings)
    except CheckpointError as error:
        if "--download" in str(error):
            pace = past_pace(recipe.kind, settings.device, parameters_by_name(recipe))
            _print_forecast(forecast(scope_of_absent(recipe, settings), pace), out, settings.device)
            if recipe.then is not None:
                trials = settings.trials or recipe.then.search.trials
                OUT.print(f"        without the second stage ({trials} trials of routes), which needs the models")
        raise
    _print_plan(plan)
    if second is not None:
        _print_second_stage(recipe, second)
    _print_forecast(_forecast(plan, second, out, measured, watch), out, settings.device)


def _forecast(plan: Plan, second: Plan | None, out: Path, measured: bool | None, watch: Watch) -> Forecast:
    from evovlm.cli.console import OUT
    from evovlm.evolution.forecast import SMALL, forecast, forecast_stages, scope_of
    from evovlm.evolution.preparing import lacking_disk
    from evovlm.evolution.stages import FIRST

    folder = out if second is None else out / FIRST
    refused, no_room = lacking_disk(plan, folder)
    if refused:
        OUT.print(f"would stop before the search: {refused}")
    scope = scope_of(plan, _logged(folder), no_room)
    small = scope.bytes_model * (scope.models + 1) <= SMALL
    here = small if measured is None else measured
    pace = _pace(plan, watch, builds=scope.checkpoint or second is not None) if here else _past(plan, small)
    pace = _with_vectors(pace, plan, watch, no_room)
    OUT.print(f"TSV-M as a control of the held-out table: {f'none, since {scope.no_tsv}' if scope.no_tsv else 'yes'}")
    if second is None:
        return forecast(scope, pace)
    return forecast_stages(plan, second, pace, (_logged(folder), _logged(out)), no_room)


def _logged(folder: Path) -> int:
    """How many trials a study's folder holds."""
    from evovlm.study import log as study_log

    return len(study_log.read_trials(folder)) if (folder / study_log.TRIALS).exists() else 0


def _pace(plan: Plan, watch: Watch, *, builds: bool) -> Pace:
    """The pace of this machine; of past runs if no candidate of the first generation works."""
    from evovlm.evolution.measure import measure

    try:
        with busy(watch, "measuring a few steps"):
            return measure(plan, builds=builds)
    except (CandidateFault, FloatingPointError):
        return _past(plan, small=True)


def _with_vectors(pace: Pace, plan: Plan, watch: Watch, no_room: str) -> Pace:
    """The pace with the time of preparing task vectors, from small matrices on this machine."""
    from dataclasses import replace
    from math import isnan

    from evovlm.evolution.preparing import preparing_seconds

    with busy(watch, "timing small matrices"):
        seconds = preparing_seconds(plan, no_room)
    if not seconds:
        return pace
    if isnan(seconds):
        return replace(pace, whence=f"{pace.whence}; without preparing task vectors, which no GPU here can time")
    return replace(pace, vectors=seconds, whence=f"{pace.whence}; task vectors: small matrices timed here")


def _past(plan: Plan, small: bool) -> Pace:
    from dataclasses import replace
    from math import prod

    from evovlm.evolution.past_runs import past_pace

    counts = [
        sum(prod(model.checkpoint.shape(key)) for key in model.tower.values())
        for model in plan.assembly.sources.values()
    ]
    pace = past_pace(plan.recipe.kind, plan.settings.device, max(counts) / 1e9)
    hint = "" if small else "; --measure loads the models and measures here"
    return replace(pace, whence=pace.whence + hint)


def _print_plan(plan: Plan) -> None:
    from evovlm.cli.console import OUT, findings_table
    from evovlm.recipe.layer_groups import group_in_words

    OUT.print(findings_table(plan.assembly.findings))
    OUT.print(
        f"would search {len(plan.genes)} genes with {plan.recipe.search.algorithm if plan.recipe.search else ''}:"
        f" {plan.trials} trials of {len(plan.search_items)} {plan.task.name} items on {plan.settings.device}"
    )
    if plan.fidelity:
        OUT.print(plan.fidelity)
    if plan.race is not None or (plan.recipe.search is not None and plan.recipe.search.fidelity is not None):
        OUT.print("a race and cheap first answers are not counted below: all candidates are asked all items, in full")
    if plan.sets.left_out:
        OUT.print(f"left out: {plan.sets.left_out} search items that are too similar to validation or test items")
    shown = [f"{gene.source}.{gene.parameter}.{group_in_words(gene.group)}" for gene in plan.genes[:GENES_SHOWN]]
    left = len(plan.genes) - len(shown)
    OUT.print("genes: " + ", ".join(shown) + (f" and {left} more" if left else ""))


def _print_second_stage(recipe: Recipe, second: Plan) -> None:
    from evovlm.cli.console import OUT

    then = recipe.then
    assert then is not None
    OUT.print(
        f"then would search routes through the sources and the {then.winners} best merges"
        f" with {then.search.algorithm}: {second.trials} trials of {len(second.search_items)} {second.task.name} items"
    )


def _print_forecast(found: Forecast, out: Path, device: str) -> None:
    from evovlm.cli.console import OUT, forecast_table
    from evovlm.system.machine import free_memory
    from evovlm.system.units import size

    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    OUT.print(forecast_table(found))
    OUT.print(f"time    {found.in_words()}")
    OUT.print(f"memory  at most about {size(found.host)}; {size(free_memory())} are available")
    if device.startswith("cuda"):
        OUT.print(f"GPU     at most about {size(found.gpu)}; the cache of keys and values takes what is free")
    OUT.print(f"disk    about {size(found.disk)}; {size(shutil.disk_usage(folder).free)} are free at {folder}")
    OUT.print(f"from    {found.whence}")
