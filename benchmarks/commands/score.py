"""`score`: answers made elsewhere, scored as ours are; no model needed. Knows typer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer


def score(
    task: Annotated[str, typer.Argument(help="TASK, TASK:SPLIT or TASK@PATH:SPLIT; see `evovlm bench tasks`.")],
    predictions: Annotated[Path, typer.Option(help="Rows with `prediction`, and `id` unless in the task's order.")],
    scoring: Annotated[str | None, typer.Option(help="How numbers are read: compatible or corrected.")] = None,
    lid: Annotated[Path | None, typer.Option(help="fastText's lid.176 file, to tell Japanese as the paper.")] = None,
    preset: Annotated[str | None, typer.Option(help="The preset whose scoring counts.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="How many items the answers are to.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the items' draw, and of the interval.")] = 0,
    answers: Annotated[bool, typer.Option("--answers", help="Every answer's score too, with --json.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch data that are not here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Score a file of answers. Rows that bring `reference` or `references` need no data; others use the task's.

    \b
    Examples:
      evovlm bench score custom-vqa --predictions answers.jsonl
      evovlm bench score custom-maths --predictions sums.jsonl --scoring compatible --json
      evovlm bench score mgsm-ja@data/mgsm:test --predictions mgsm.jsonl
    """
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from dataclasses import replace

    from benchmarks.commands.choices import task_options
    from benchmarks.predictions import answer_rows, score_predictions
    from evovlm.console import OUT
    from evovlm.tasks import load_task, parse_split

    options = replace(task_options(scoring=scoring, lid=lid, download=download), preset=preset)
    if ":" in task:
        loaded, split = parse_split(task, options)
    else:
        name, _, path = task.partition("@")
        loaded = load_task(name, replace(options, path=Path(path)) if path else options)
        split = (loaded.test_splits or loaded.splits)[0]
    found = score_predictions(loaded, split, predictions, items=items, seed=seed)
    rows = found.pop("answers")
    row = {"task": loaded.name, "split": split, "predictions": str(predictions), "seed": seed} | found
    if as_json:
        print(json.dumps(row | ({"answers": answer_rows(rows)} if answers else {}), ensure_ascii=False))
        return
    low, high = found["ci95"]
    OUT.print(
        f"{loaded.name}: [bold]{found['score']:.2f}[/bold] (95 % {low:.2f} to {high:.2f}, bootstrap median"
        f" {found['median']:.2f}), exact {found['exact']:.1%}, {found['items']} items"
    )
    OUT.print("beside: " + ", ".join(f"{name} {value:.2f}" for name, value in found["beside"].items()))
    OUT.print("rules: " + ", ".join(f"{name} {value}" for name, value in found["rules"].items()))
    if found["missing"]:
        OUT.print(f"{found['missing']} items have no answer and count as empty")
