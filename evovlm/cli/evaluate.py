"""`evaluate`: one model on one task. Knows typer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evovlm.cli._options import AsJson, Device, Download, SelfCheck
from evovlm.cli.devices import device_for
from evovlm.recipe.limits import MOST_BATCH, MOST_ITEMS, MOST_SEED

if TYPE_CHECKING:
    from evovlm.cli.progress import ShownWatch
    from evovlm.system.progress import Progress


def evaluate(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, zoo:NAME or hub id; or a recipe.")],
    data: Annotated[str, typer.Option(help="TASK:SPLIT, or TASK@PATH:SPLIT with the data in a file or folder.")],
    items: Annotated[int, typer.Option(min=1, max=MOST_ITEMS, help="Number of items.")] = 500,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed that selects the items.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Questions per batch.")] = 128,
    preset: Annotated[str | None, typer.Option(help="How the task asks and scores. Default: its own.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    download: Download = False,
    self_check: SelfCheck = True,
) -> None:
    """Score one model, or the merge that a recipe describes, on one task.

    \b
    Examples:
      evovlm evaluate zoo:vlm --data zoo-vqa:test
      evovlm evaluate runs/demo/checkpoint --data zoo-vqa:test --json
      evovlm evaluate zoo-vlm --data zoo-vqa:test     (a recipe, merged in memory)
      evovlm evaluate zoo:ja --data custom-maths@problems.jsonl:test
    """
    from evovlm.cli.progress import shown, waiting

    device = device_for(device)
    with waiting("starting"):
        from evovlm import api
        from evovlm.system.version import hardware, versions
        from evovlm.tasks import Options, parse_split
    with shown() as watch:
        watch.phase("loading", 0)
        evaluation = api.evaluate(
            model,
            data,
            items=items,
            seed=seed,
            batch=batch,
            preset=preset,
            device=device,
            download=download,
            self_check=self_check,
            progress=_shown_on(watch),
        )
    interval = evaluation.interval(seed)
    task, _ = parse_split(data, Options(preset=preset))
    row = {
        "model": model,
        "data": data,
        "items": len(evaluation.scores),
        "seed": seed,
        "score": evaluation.score,
        "ci95": [interval.low, interval.high],
        "exact": evaluation.exact_share,
        "rules": dict(task.rules),
        "generation": task.generation.content,
        "versions": versions(),
        "hardware": hardware(device),
    }
    _print_row(row, as_json=as_json)


def _print_row(row: dict[str, Any], *, as_json: bool) -> None:
    from evovlm.cli.console import OUT

    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    low, high = row["ci95"]
    OUT.print(
        f"{row['model']} on {row['data']}: {row['score']:.2f} (95 % {low:.2f} to {high:.2f}),"
        f" exact {row['exact']:.1%}, {row['items']} items, seed {row['seed']}"
    )


def _shown_on(watch: ShownWatch) -> Progress:
    """A function that shows how many questions are answered; the phase of questions begins when there are any."""

    def answered(done: int, total: int) -> None:
        if total:
            if not done:
                watch.phase("questions", total)
            watch.at(done, total)

    return answered
