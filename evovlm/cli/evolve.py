"""`evolve`: search, pick the winner, test it; print the results. Knows typer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evovlm.cli._options import AsJson, Device, Download, DryRun, RecipeArgument
from evovlm.system.errors import UserError

if TYPE_CHECKING:
    from evovlm.evolution.plan import Plan
    from evovlm.recipe.schema import Stage
    from evovlm.study.result import Result
    from evovlm.system.progress import Watch

GENES_SHOWN = 60


def evolve(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command resumes it.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Total candidates. Default: the recipe's.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Questions per candidate. Default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the search. Default: the recipe's.")] = None,
    judged: Annotated[
        int | None,
        typer.Option(min=2, help="Questions used to pick the winner, and for the final test. Default: 300 and 500."),
    ] = None,
    device: Device = "cpu",
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Also write the winner as a checkpoint, in --out.")
    ] = False,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals", help="Also run two baseline searches (random; one weight per source). Three times the cost."
        ),
    ] = False,
    race: Annotated[
        bool, typer.Option("--race", help="Drop a candidate as soon as a test on few items shows that it is worse.")
    ] = False,
    keep_diverse: Annotated[
        bool,
        typer.Option(
            "--keep-diverse", help="Also keep an atlas: the best recipe for each profile of scores on two skills."
        ),
    ] = False,
    ray: Annotated[str | None, typer.Option(help="Evaluate on a Ray cluster: its address, or auto.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: number of workers. Default: one per GPU or core.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0.1, help="With --ray: time limit per candidate, in seconds.")
    ] = None,
    sources_in: Annotated[
        str, typer.Option(help="On a GPU, where to keep sources: auto, gpu, host (pinned, streamed) or disk (mapped).")
    ] = "auto",
    eight_bit: Annotated[
        bool,
        typer.Option("--eight-bit", help="On a GPU, keep task vectors in 8 bits. The quantisation error is logged."),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Report time per phase and candidate, against the hardware limit."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    download: Download = False,
) -> None:
    """Search a recipe's parameters, pick the winner on fresh items, and test it on held-out ones.

    It can be stopped at any time; run the same command again to resume.

    \b
    Examples:
      evovlm evolve zoo-vlm --out runs/vlm --trials 100
      evovlm evolve zoo-llm --out runs/llm --checkpoint
      evovlm evolve zoo-llm --out runs/llm --rivals
      evovlm evolve zoo-ps-dfs --out runs/both
      evovlm evolve evovlm-jp --out runs/jp --dry-run
      evovlm evolve zoo-llm --out runs/many --ray auto
      evovlm evolve zoo-llm --out runs/fast --race
      evovlm evolve zoo-vlm --out runs/atlas --keep-diverse
    """
    from evovlm.evolution.plan import EvolveSettings
    from evovlm.evolution.search_loop import Workers
    from evovlm.evolution.stages import evolve_stages, plan_first
    from evovlm.merging.live.choose import Keeping, refuse_cpu
    from evovlm.recipe.shipped import named_recipe
    from evovlm.report import write_report
    from evovlm.search.race import RaceSettings
    from evovlm.system.device import check_device, device_named

    if ray is None and (workers is not None or time_limit is not None):
        raise UserError("--workers and --time-limit need --ray; add `--ray auto`")
    pool = Workers(ray, workers, time_limit) if ray is not None else None
    racing = RaceSettings() if race else None
    keeping = Keeping(sources_in, eight_bit)
    refuse_cpu(keeping, device)
    settings = EvolveSettings(
        trials=trials,
        items=items,
        seed=seed,
        judged=judged,
        device=device,
        checkpoint=checkpoint,
        download=download,
        rivals=rivals,
        workers=pool,
        race=racing,
        keep_diverse=keep_diverse,
        keeping=keeping,
        profile=profile,
    )
    loaded = named_recipe(recipe)
    device_named(device)
    if dry_run:
        _print_plan(plan_first(loaded, loaded.root, settings))
        if loaded.then is not None:
            _print_second_stage(loaded.then, trials)
        return
    check_device(device)
    with _watch(as_json=as_json) as watch:
        result = evolve_stages(loaded, loaded.root, settings, out, watch)
    report = write_report(out)
    if as_json:
        print(json.dumps({"result": result.content(), "report": str(report)}, ensure_ascii=False))
    else:
        _print_result(out, result, report)


@contextmanager
def _watch(*, as_json: bool) -> Iterator[Watch]:
    """How progress is shown: JSON lines with --json, bars on a terminal, plain lines otherwise."""
    from evovlm.cli.console import ERR, BarWatch, JsonWatch, LineWatch, bars

    if as_json:
        yield JsonWatch()
    elif not ERR.is_terminal:
        yield LineWatch()
    else:
        with bars() as progress:
            yield BarWatch(progress)


def _print_second_stage(then: Stage, trials: int | None) -> None:
    from evovlm.cli.console import OUT

    OUT.print(
        f"then would search routes through the sources and the {then.winners} best merges"
        f" with {then.search.algorithm}: {trials or then.search.trials} trials"
    )


def _print_plan(plan: Plan) -> None:
    from evovlm.cli.console import OUT, findings_table

    OUT.print(findings_table(plan.assembly.findings))
    OUT.print(
        f"would search {len(plan.genes)} genes with {plan.recipe.search.algorithm if plan.recipe.search else ''}:"
        f" {plan.trials} trials of {len(plan.search_items)} {plan.task.name} items on {plan.settings.device}"
    )
    if plan.sets.left_out:
        OUT.print(f"left out: {plan.sets.left_out} search items that are too similar to validation or test items")
    shown = [gene.name for gene in plan.genes[:GENES_SHOWN]]
    left = len(plan.genes) - len(shown)
    OUT.print("genes: " + ", ".join(shown) + (f" and {left} more" if left else ""))


def _print_result(out: Path, result: Result, page: Path) -> None:
    from evovlm.cli.console import OUT, answers_table, held_out_table, profile_table, told_luck
    from evovlm.study import log as study_log
    from evovlm.system import files

    OUT.print(held_out_table(result))
    rows = list(files.read_rows(out / study_log.HELD_OUT_ANSWERS))
    OUT.print(answers_table(rows, [*result.held_out.sources, "evolved"]))
    chosen = result.selection
    if chosen is not None:
        OUT.print(
            f"Winner: trial {chosen.trial}, scored {chosen.search_score:.2f} on the search items and"
            f" {chosen.choice_score:.2f} on fresh ones: {told_luck(chosen.luck)}."
        )
    if result.profile is not None:
        OUT.print(profile_table(result.profile))
    if result.front is not None:
        OUT.print(f"front       {len(result.front.points)} recipes in {out / study_log.FRONT}")
    if (out / study_log.ATLAS).exists():
        atlas = files.read_json(out / study_log.ATLAS)
        skills = " and ".join(atlas["axes"])
        OUT.print(f"atlas       {len(atlas['cells'])} recipes by {skills} in {out / study_log.ATLAS_RECIPES}")
    OUT.print(f"report      {page}")
    OUT.print(f"plot        {page.with_name('scores.svg')}")
    OUT.print(f"recipe      {out / study_log.BEST}")
    if result.checkpoint is not None:
        OUT.print(f"checkpoint  {result.checkpoint}")
