"""`run`: every model of a suite answers every task. Knows typer and the runner, which it imports when needed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.cli.console import OUT, bars
from evovlm.cli.limits import MOST_WORKERS
from evovlm.recipe.limits import MOST_BATCH, MOST_ITEMS, MOST_SEED
from evovlm.system.errors import UserError
from evovlm.system.files import write_json, write_text
from evovlm_benchmarks.runner.comparison import Entry, behind_best
from evovlm_benchmarks.runner.pairs import Pair, plan_pairs
from evovlm_benchmarks.runner.results import FORMAT, Result, read_answers
from evovlm_benchmarks.runner.suite import Suite, make_suite, named_model, read_suite
from evovlm_benchmarks.runner.tables import Sheet, html, markdown, print_sheet, run_sheets
from evovlm_benchmarks.runner.task_options import task_options

Answer = Callable[..., list[Result]]


def run(
    suite: Annotated[str | None, typer.Argument(help="zoo, zoo-medium, evovlm-jp, evollm-jp, or a .yaml file.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; a rerun resumes.")] = Path("runs/bench"),
    model: Annotated[list[str] | None, typer.Option(help="MODEL or NAME=MODEL, added to the suite's, if any.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="TASK:SPLIT or TASK@PATH:SPLIT; replaces the suite's.")] = None,
    preset: Annotated[str | None, typer.Option(help="Prompt and scoring preset; replaces the suite's.")] = None,
    items: Annotated[int | None, typer.Option(min=1, max=MOST_ITEMS, help="Questions per task; default: all.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Seed for the choice of questions.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, max=MOST_BATCH, help="Batch size; default: by free memory.")
    ] = None,
    scoring: Annotated[str | None, typer.Option(help="How numbers are read: compatible or corrected.")] = None,
    lid: Annotated[Path | None, typer.Option(help="fastText's lid.176 file; detects Japanese as in the paper.")] = None,
    device: Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1.")] = "cpu",
    download: Annotated[bool, typer.Option("--download", help="Download missing models and data.")] = False,
    ray: Annotated[str | None, typer.Option(help="Run on a Ray cluster: auto, or its address.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_WORKERS, help="With --ray: number of workers; default: one per GPU or core."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run a suite of models and tasks. After a crash or kill, run the same command again to resume.

    \b
    Examples:
      evovlm bench run zoo
      evovlm bench run zoo --model mine=runs/vlm/checkpoint --out runs/zoo
      evovlm bench run --model zoo:ja --task mgsm-ja@data/mgsm:test --preset short
      evovlm bench run evovlm-jp --device cuda --download --preset greedy
      evovlm bench run evovlm-jp --device cuda --download --ray auto     (one worker per GPU)
    """
    if ray is None and workers is not None:
        raise UserError("--workers only works with --ray; add `--ray auto`")
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    chosen = choose_suite(suite, model, task, preset, items, seed, batch)
    pairs = plan_pairs(chosen, task_options(scoring=scoring, lid=lid, download=download))
    answer = _here(device, download) if ray is None else _on_ray(ray, workers, scoring, lid, device, download)
    results = _answer_all(chosen, pairs, out, answer)
    content = {"format": FORMAT, "results": [result.model_dump(mode="json") for result in results]}
    sheets = _write(out, results, content)
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    for sheet in sheets:
        print_sheet(OUT, sheet)
    OUT.print(f"results  {out / 'results.json'}, .md and .html; compare with `evovlm bench compare {out}`")


def _here(device: str, download: bool) -> Answer:
    """Answer in this process."""
    from evovlm_benchmarks.runner.running import run_suite

    return partial(run_suite, device=device, download=download)


def _on_ray(
    address: str, count: int | None, scoring: str | None, lid: Path | None, device: str, download: bool
) -> Answer:
    """Answer with workers on a Ray cluster."""
    from evovlm.evolution.search_loop import Workers
    from evovlm_benchmarks.runner.on_ray import Choices, run_suite_on_ray

    choices = Choices(str(Path.cwd()), scoring, None if lid is None else str(lid.resolve()), device, download)
    return partial(run_suite_on_ray, choices=choices, workers=Workers(address, count))


def _answer_all(suite: Suite, pairs: Sequence[Pair], out: Path, answer: Answer) -> list[Result]:
    """Run all pairs, showing a progress bar."""
    with bars() as progress:
        whole = progress.add_task("answers", total=sum(len(pair.items) for pair in pairs), figures="")

        def step(pair: Pair, made: int) -> None:
            progress.update(whole, advance=made, figures=f"{pair.model.name} on {pair.task.name}")

        return answer(suite, pairs, out, step=step)


def _write(out: Path, results: Sequence[Result], content: dict[str, Any]) -> list[Sheet]:
    """Write results.json, .md and .html of the whole run; return the tables."""
    entries = [
        Entry(result.model, result, {answer.id: answer for answer in read_answers(out / result.answers)})
        for result in results
    ]
    sheets, title = run_sheets(results, behind_best(entries)), f"Results in {out.name}"
    write_json(out / "results.json", content)
    write_text(out / "results.md", markdown(sheets, title))
    write_text(out / "results.html", html(sheets, title))
    return sheets


def choose_suite(
    suite: str | None,
    models: list[str] | None,
    tasks: list[str] | None,
    preset: str | None,
    items: int | None,
    seed: int | None,
    batch: int | None,
) -> Suite:
    """The suite that the arguments describe. Raises UserError if they name no models or no tasks."""
    content = {"models": [], "tasks": []} if suite is None else read_suite(suite).model_dump(mode="json")
    content["models"] += [named_model(text).model_dump(mode="json") for text in models or []]
    if tasks:
        content["tasks"] = [{"task": text} for text in tasks]
    if not content["models"] or not content["tasks"]:
        raise UserError("nothing to run: name a suite, such as `run zoo`, or --model and --task")
    over = {key: value for key, value in (("preset", preset), ("items", items)) if value is not None}
    content["tasks"] = [asked | over for asked in content["tasks"]]
    content |= {key: value for key, value in (("seed", seed), ("batch", batch)) if value is not None}
    return make_suite(content, where=suite or "the command line")
