"""`run`: every model of a suite answers every task. Knows typer and the runner, which it imports when needed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evovlm.cli.console import ERR, OUT
from evovlm.cli.devices import device_for
from evovlm.cli.progress import shown, waiting
from evovlm.system.errors import UserError, joined_errors
from evovlm.system.files import write_json, write_text
from evovlm_benchmarks.commands import _run_options as option
from evovlm_benchmarks.commands.dry_run import print_plan
from evovlm_benchmarks.runner.comparison import Entry, behind_best
from evovlm_benchmarks.runner.pairs import Pair, plan_pairs
from evovlm_benchmarks.runner.results import FORMAT, Failure, Outcome, read_answers
from evovlm_benchmarks.runner.suite import Suite, make_suite, named_model, narrowed, read_suite
from evovlm_benchmarks.runner.tables import Sheet, html, markdown, print_sheet, run_sheets
from evovlm_benchmarks.runner.task_options import task_options

Answer = Callable[..., Outcome]


def run(
    suite: option.Suite = None,
    out: option.Out = Path("runs/bench"),
    model: option.Model = None,
    task: option.Task = None,
    preset: option.Preset = None,
    only: option.Only = None,
    skip: option.Skip = None,
    items: option.Items = None,
    seed: option.Seed = None,
    batch: option.Batch = None,
    scoring: option.Scoring = None,
    lid: option.Lid = None,
    device: option.Device = "auto",
    download: option.Download = False,
    ray: option.Ray = None,
    workers: option.Workers = None,
    self_check: option.SelfCheck = True,
    dry_run: option.DryRun = False,
    measure: option.Measure = None,
    as_json: option.AsJson = False,
) -> None:
    """Run a suite of models and tasks. After a crash or kill, run the same command again to resume.

    A model that cannot be opened or fails is reported at the end, with exit code 2, after the others are scored.

    \b
    Examples:
      evovlm bench run zoo
      evovlm bench run zoo --model mine=runs/vlm/checkpoint --out runs/zoo
      evovlm bench run zoo --only ja --only math --skip zoo-vqa
      evovlm bench run evollm-jp --skip Abel-7B-002 --model Abel-7B-002=abel     (a converted copy in its place)
      evovlm bench run --model zoo:ja --task mgsm-ja@data/mgsm:test --preset short
      evovlm bench run evovlm-jp --device cuda --download --preset greedy
      evovlm bench run evovlm-jp --device cuda --download --ray auto     (one worker per GPU)
    """
    if ray is None and workers is not None:
        raise UserError("--workers only works with --ray; add `--ray auto`")
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    chosen = choose_suite(suite, model, task, preset, items, seed, batch, only, skip)
    with waiting("reading the questions"):
        device = device_for(device)
        pairs = plan_pairs(chosen, task_options(scoring=scoring, lid=lid, download=download))
    if dry_run:
        return print_plan(chosen, pairs, out, device, download=download, self_check=self_check, measure=measure)
    if ray is None:
        answer = _here(device, self_check)
    else:
        answer = _on_ray(ray, workers, scoring, lid, device=device, download=download, self_check=self_check)
    outcome = _answer_all(chosen, pairs, out, answer, download)
    _write_and_print(out, outcome, as_json=as_json)
    if outcome.failures:
        raise UserError(joined_errors(_failure_lines(outcome.failures), "failures; the others are scored"))


def _failure_lines(failures: Sequence[Failure]) -> list[str]:
    """The failures, a line each."""
    from evovlm_benchmarks.runner.running import failure_line

    return [failure_line(one) for one in failures]


def _here(device: str, self_check: bool) -> Answer:
    """Answer in this process."""
    from evovlm_benchmarks.runner.running import run_suite

    return partial(run_suite, device=device, self_check=self_check)


def _on_ray(
    address: str,
    count: int | None,
    scoring: str | None,
    lid: Path | None,
    *,
    device: str,
    download: bool,
    self_check: bool,
) -> Answer:
    """Answer with workers on a Ray cluster."""
    from evovlm.evaluators.ray_settings import refuse_settings
    from evovlm.evolution.search_loop import Workers
    from evovlm_benchmarks.runner.on_ray import Choices, run_suite_on_ray

    refuse_settings()
    file = None if lid is None else str(lid.resolve())
    choices = Choices(str(Path.cwd()), scoring, file, device, download, self_check)
    return partial(run_suite_on_ray, choices=choices, workers=Workers(address, count))


def _answer_all(suite: Suite, pairs: Sequence[Pair], out: Path, answer: Answer, download: bool) -> Outcome:
    """Open the models and run all pairs, showing a progress bar. Models that cannot be opened are reported at once."""
    from evovlm_benchmarks.runner.running import open_models

    with waiting("opening the models"):
        opened, unopened = open_models(suite, download=download)
    for told in _failure_lines(unopened):
        ERR.print(f"left out: {told}", style="yellow", markup=False, soft_wrap=True)
    possible = [pair for pair in pairs if pair.model.name in opened]
    total, done = sum(len(pair.items) for pair in possible), 0
    with shown() as watch:
        watch.phase("answers", total)

        def step(pair: Pair, count: int, *, found: bool = False) -> None:
            nonlocal done
            done += count
            watch.at(done, total, f"{pair.model.name} on {pair.task.name}", found=count if found else 0)

        outcome = answer(suite, opened, possible, out, step=step)
    return Outcome(outcome.results, [*unopened, *outcome.failures])


def _write_and_print(out: Path, outcome: Outcome, *, as_json: bool) -> None:
    """Write the results of the whole run into its folder, and print them as tables or as JSON."""
    content = {
        "format": FORMAT,
        "results": [result.model_dump(mode="json") for result in outcome.results],
        "failed": [one.model_dump(mode="json") for one in outcome.failures],
    }
    sheets = _write(out, outcome, content)
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    for sheet in sheets:
        print_sheet(OUT, sheet)
    OUT.print(f"results  {out / 'results.json'}, .md and .html; compare with `evovlm bench compare {out}`")


def _write(out: Path, outcome: Outcome, content: dict[str, Any]) -> list[Sheet]:
    """Write results.json, .md and .html of the whole run; return the tables."""
    results = outcome.results
    entries = [
        Entry(result.model, result, {answer.id: answer for answer in read_answers(out / result.answers)})
        for result in results
    ]
    sheets, title = run_sheets(results, behind_best(entries), outcome.failures), f"Results in {out.name}"
    out.mkdir(parents=True, exist_ok=True)
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
    only: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
) -> Suite:
    """The suite that the arguments describe. Raises UserError if they name no models or no tasks.

    `only`, `skip`: names of models and tasks. Models of `models` stay in any case; they may replace one of `skip`.
    """
    content = {"models": [], "tasks": []} if suite is None else read_suite(suite).model_dump(mode="json")
    added = [named_model(text).model_dump(mode="json") for text in models or []]
    if tasks:
        content["tasks"] = [{"task": text} for text in tasks]
    if only or skip:
        content = narrowed(content, only or [], skip or [], [model["name"] for model in added])
    content["models"] += added
    if not content["models"] or not content["tasks"]:
        raise UserError("nothing to run: name a suite, such as `run zoo`, or --model and --task")
    over = {key: value for key, value in (("preset", preset), ("items", items)) if value is not None}
    content["tasks"] = [asked | over for asked in content["tasks"]]
    content |= {key: value for key, value in (("seed", seed), ("batch", batch)) if value is not None}
    return make_suite(content, where=suite or "the command line")
