"""`score`: score answers generated elsewhere by the same rules as ours; no model needed. Knows typer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.cli.console import OUT
from evovlm.recipe.limits import MOST_ITEMS, MOST_SEED
from evovlm.tasks import Options, Task, load_task, parse_split
from evovlm_benchmarks.runner.predictions import answer_rows, score_predictions
from evovlm_benchmarks.runner.task_options import task_options


def score(
    task: Annotated[str, typer.Argument(help="TASK, TASK:SPLIT or TASK@PATH:SPLIT; see `evovlm bench tasks`.")],
    predictions: Annotated[Path, typer.Option(help="File of rows with `prediction`; `id` unless in task order.")],
    scoring: Annotated[str | None, typer.Option(help="How numbers are read: compatible or corrected.")] = None,
    lid: Annotated[Path | None, typer.Option(help="fastText's lid.176 file; detects Japanese as in the paper.")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset whose scoring is used.")] = None,
    items: Annotated[int | None, typer.Option(min=1, max=MOST_ITEMS, help="Number of items answered.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed for the choice of items and the interval.")] = 0,
    answers: Annotated[bool, typer.Option("--answers", help="With --json: include each answer's score.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Score a file of answers. Rows with `reference` or `references` need no data; others use the task's references.

    \b
    Examples:
      evovlm bench score custom-vqa --predictions answers.jsonl
      evovlm bench score custom-maths --predictions sums.jsonl --scoring compatible --json
      evovlm bench score mgsm-ja@data/mgsm:test --predictions mgsm.jsonl
    """
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    options = replace(task_options(scoring=scoring, lid=lid, download=download), preset=preset)
    loaded, split = _named(task, options)
    found = score_predictions(loaded, split, predictions, items=items, seed=seed)
    rows = found.pop("answers")
    if as_json:
        row = {"task": loaded.name, "split": split, "predictions": str(predictions), "seed": seed} | found
        print(json.dumps(row | ({"answers": answer_rows(rows)} if answers else {}), ensure_ascii=False))
    else:
        _print(loaded.name, found)


def _named(text: str, options: Options) -> tuple[Task, str]:
    """Task and split of TASK:SPLIT; TASK and TASK@PATH mean the test split (or the first, if there is none)."""
    if ":" in text:
        return parse_split(text, options)
    name, _, path = text.partition("@")
    task = load_task(name, replace(options, path=Path(path)) if path else options)
    return task, (task.test_splits or task.splits)[0]


def _print(name: str, found: Mapping[str, Any]) -> None:
    low, high = found["ci95"]
    OUT.print(
        f"{name}: {found['score']:.2f} (95 % {low:.2f} to {high:.2f}, bootstrap median"
        f" {found['median']:.2f}), exact {found['exact']:.1%}, {found['items']} items"
    )
    OUT.print("beside: " + ", ".join(f"{key} {value:.2f}" for key, value in found["beside"].items()))
    OUT.print("rules: " + ", ".join(f"{key} {value}" for key, value in found["rules"].items()))
    if found["missing"]:
        OUT.print(f"{found['missing']} items have no answer and are scored as empty")
