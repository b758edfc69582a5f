"""`evolve`: search, pick the winner, test it; print the results. Knows no options' texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evovlm.cli import _evolve_options as option
from evovlm.cli._options import AsJson, Device, Download, RecipeArgument, SelfCheck
from evovlm.cli.devices import device_for
from evovlm.system.errors import UserError

if TYPE_CHECKING:
    from evovlm.evolution.plan import EvolveSettings
    from evovlm.evolution.search_loop import Workers
    from evovlm.merging.live.choose import Keeping
    from evovlm.recipe.schema import Recipe
    from evovlm.search.race import RaceSettings
    from evovlm.study.held_out_log import Kind
    from evovlm.study.result import Atlas, Result


def evolve(
    recipe: RecipeArgument,
    out: option.Out,
    trials: option.Trials = None,
    items: option.Items = None,
    seed: option.Seed = None,
    judged: option.Judged = None,
    device: Device = "auto",
    checkpoint: option.Checkpoint = False,
    rivals: option.Rivals = False,
    race: option.Race = None,
    keep_diverse: option.KeepDiverse = False,
    ray: option.RayAddress = None,
    workers: option.WorkerCount = None,
    time_limit: option.TimeLimit = None,
    root: option.Root = None,
    sources_in: option.SourcesIn = "auto",
    eight_bit: option.EightBit = False,
    profile: option.Profile = False,
    self_check: SelfCheck = True,
    dry_run: option.DryRun = False,
    measured: option.Measured = None,
    as_json: AsJson = False,
    download: Download = False,
) -> None:
    """Search a recipe's parameters, pick the winner on fresh items, and test it on held-out ones.

    It can be stopped at any time; run the same command again to resume.

    \b
    Examples:
      evovlm evolve zoo-vlm --out runs/vlm --trials 100
      evovlm evolve zoo-llm --out runs/llm --checkpoint
      evovlm evolve zoo-ps-dfs --out runs/both
      evovlm evolve evovlm-jp --out runs/jp --dry-run
      evovlm evolve zoo-llm --out runs/many --ray auto
    """

    def settings() -> EvolveSettings:
        from evovlm.evolution.plan import EvolveSettings

        return EvolveSettings(
            trials=trials,
            items=items,
            seed=seed,
            judged=judged,
            device=device_for(device, out),
            checkpoint=checkpoint,
            download=download,
            rivals=rivals,
            workers=_workers(ray, workers, time_limit),
            race=_race(race),
            keep_diverse=keep_diverse,
            keeping=_keeping(sources_in, eight_bit),
            profile=profile,
            self_check=self_check,
        )

    act = partial(_dry_run, measured=measured) if dry_run else partial(_search, as_json=as_json)
    act(recipe, root, out, settings)


def _workers(ray: str | None, workers: int | None, time_limit: float | None) -> Workers | None:
    from evovlm.evolution.search_loop import Workers

    if ray is None and (workers is not None or time_limit is not None):
        raise UserError("--workers and --time-limit need --ray; add `--ray auto`")
    return Workers(ray, workers, time_limit) if ray is not None else None


def _race(race: bool | None) -> RaceSettings | Literal[False] | None:
    from evovlm.search.race import RaceSettings

    return RaceSettings() if race else race


def _keeping(sources_in: str, eight_bit: bool) -> Keeping:
    from evovlm.merging.live.choose import Keeping

    return Keeping(sources_in, eight_bit)


def _search(
    recipe: Path, root: Path | None, out: Path, settings: Callable[[], EvolveSettings], *, as_json: bool
) -> None:
    from evovlm.cli.console import note
    from evovlm.cli.progress import watching
    from evovlm.system.progress import busy

    with watching(as_json=as_json) as watch:
        with busy(watch, "starting"):
            from evovlm.evolution.stages import evolve_stages
            from evovlm.recipe.shipped import placed_recipe_errors
            from evovlm.report import write_report
            from evovlm.system.device import check_device

            loaded, chosen = _read(recipe, root, settings)
            check_device(chosen.device)
        with placed_recipe_errors(recipe):
            result = evolve_stages(loaded, loaded.root, chosen, out, watch)
        with busy(watch, "writing the report"):
            report = write_report(out, note)
    if as_json:
        print(json.dumps({"result": result.content(), "report": str(report)}, ensure_ascii=False))
    else:
        _print_result(out, result, report)


def _dry_run(
    recipe: Path, root: Path | None, out: Path, settings: Callable[[], EvolveSettings], *, measured: bool | None
) -> None:
    from evovlm.cli.progress import watching
    from evovlm.system.progress import busy

    with watching(as_json=False) as watch:
        with busy(watch, "starting"):
            from evovlm.cli._dry_run import dry_run
            from evovlm.recipe.shipped import placed_recipe_errors

            loaded, chosen = _read(recipe, root, settings)
        with placed_recipe_errors(recipe):
            dry_run(loaded, out, chosen, measured, watch)


def _read(recipe: Path, root: Path | None, settings: Callable[[], EvolveSettings]) -> tuple[Recipe, EvolveSettings]:
    """The recipe and the settings. Raises UserError if one is wrong, before any model is opened."""
    from evovlm.merging.live.choose import refuse_cpu
    from evovlm.recipe.shipped import named_recipe
    from evovlm.system.device import device_named
    from evovlm.system.files import counted_from

    chosen = settings()
    refuse_cpu(chosen.keeping, chosen.device)
    loaded = named_recipe(recipe)
    device_named(chosen.device)
    return loaded if root is None else loaded.counted_from(counted_from(Path(), root)), chosen


def _print_result(out: Path, result: Result, page: Path) -> None:
    from evovlm.cli.console import OUT, answers_tables, held_out_table, profile_table, selection_bias_text
    from evovlm.report.words import tie
    from evovlm.study import log as study_log
    from evovlm.study.header import unheard
    from evovlm.study.held_out_log import EVOLVED, read_held_out
    from evovlm.study.result import FEWEST_GROUPS

    OUT.print(held_out_table(result))
    shown: list[tuple[Kind, str]] = [("sources", name) for name in result.held_out.sources]
    OUT.print("Answers side by side; … is where one is cut, the report has them whole")
    for table in answers_tables(read_held_out(out, unheard), [*shown, (EVOLVED, EVOLVED)]):
        OUT.print(table)
        OUT.print()
    chosen = result.selection
    if chosen is not None and chosen.tied:
        OUT.print(tie(chosen.tied, chosen.trial, chosen.search_score, several=result.front is not None))
    elif chosen is not None:
        few = chosen.items is not None and chosen.items < FEWEST_GROUPS
        OUT.print(
            f"Winner: trial {chosen.trial}, scored {chosen.search_score:.2f} on the search items and"
            f" {chosen.choice_score:.2f} on fresh ones: {selection_bias_text(chosen.luck, few=few)}."
        )
    if result.profile is not None:
        OUT.print(profile_table(result.profile))
    if result.front is not None:
        OUT.print(f"front       {len(result.front.points)} recipes in {out / study_log.FRONT}")
    atlas = _atlas(out)
    if atlas is not None:
        skills = " and ".join(atlas.axes)
        OUT.print(f"atlas       {len(atlas.cells)} recipes by {skills} in {out / study_log.ATLAS_RECIPES}")
    OUT.print(f"report      {page}")
    OUT.print(f"plot        {page.with_name('scores.svg')}")
    OUT.print(f"recipe      {out / study_log.BEST}")
    if result.checkpoint is not None:
        OUT.print(f"checkpoint  {result.checkpoint}")


def _atlas(out: Path) -> Atlas | None:
    """The study's atlas; None if there is none, or if it is damaged, which the report has told."""
    from evovlm.study.result import read_atlas

    try:
        return read_atlas(out)
    except UserError:
        return None
