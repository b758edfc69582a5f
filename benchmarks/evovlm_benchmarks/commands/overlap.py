"""`overlap`: find questions or images that two sets of items share. Knows typer and the overlap check."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from evovlm.recipe.limits import MOST_ITEMS

SHOWN = 20


def overlap(
    one: Annotated[str, typer.Argument(help="First set: TASK:SPLIT or TASK@PATH:SPLIT.")],
    other: Annotated[str, typer.Argument(help="Second set: TASK:SPLIT or TASK@PATH:SPLIT.")],
    items: Annotated[int | None, typer.Option(min=1, max=MOST_ITEMS, help="Items per set; default: all.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Find items that two sets share, by id, similar text or similar image. Exit code 1 if there are any.

    \b
    Examples:
      evovlm bench overlap zoo-vqa:search zoo-vqa:test
      evovlm bench overlap custom-vqa@my-search.jsonl:search ja-vg-vqa-500:test
    """
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from evovlm.cli.console import OUT
    from evovlm.tasks import Options, parse_split
    from evovlm.tasks.overlap import find_overlap
    from evovlm_benchmarks.runner.tables import Sheet, print_sheet

    sets = []
    for where in (one, other):
        task, split = parse_split(where, Options(download=download))
        sets.append(task.items(split, items, 0))
    found = find_overlap(*sets)
    if as_json:
        print(json.dumps([vars(pair) for pair in found], ensure_ascii=False))
    elif found:
        rows = tuple((pair.kind, pair.one, pair.other, f"{pair.likeness:.0%}") for pair in found[:SHOWN])
        title = f"{len(found)} pairs look alike" + (f", the first {SHOWN}" if len(found) > SHOWN else "")
        print_sheet(OUT, Sheet(title, ("by", one, other, "alike"), rows, words=3))
    else:
        OUT.print(f"no overlap between the {len(sets[0])} and {len(sets[1])} items")
    raise typer.Exit(1 if found else 0)
