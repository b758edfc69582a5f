"""`show`: one item and every model's answer to it. Knows typer and the result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from evovlm.system.errors import UserError
from evovlm_benchmarks.commands.entries import read_entries
from evovlm_benchmarks.runner.tables import Sheet, print_sheet


def show(
    place: Annotated[Path, typer.Argument(help="A run folder or a result file.")],
    item: Annotated[str, typer.Argument(help="The item's id, or its number among the sorted ids.")],
    task: Annotated[str | None, typer.Option(help="The task, if several have such an item.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show one item: question, references, and every model's answer with its score.

    \b
    Examples:
      evovlm bench show runs/bench 1 --task zoo-vqa
      evovlm bench show runs/mgsm gsm8k-test-0017
    """
    from evovlm.cli.console import OUT

    found = []
    for entry in read_entries([place]):
        if task in (None, entry.result.task):
            key = _key(item, list(entry.answers))
            if key is not None:
                found.append((entry, entry.answers[key]))
    if not found:
        raise UserError(f"{place}: no item {item!r}; see the ids in the run's answers/*.jsonl")
    if as_json:
        told = [{"model": e.name, "task": e.result.task} | a.model_dump(mode="json") for e, a in found]
        print(json.dumps(told, ensure_ascii=False))
        return
    for name in dict.fromkeys((entry.result.task, answer.id) for entry, answer in found):
        own = [(e, a) for e, a in found if (e.result.task, a.id) == name]
        first = own[0][1]
        OUT.print(Text.assemble((name[0], "bold"), f" {name[1]}"))
        OUT.print(first.question)
        OUT.print("references: " + " / ".join(first.references))
        rows = tuple((e.name, a.answer, f"{a.score:.1f}", "yes" if a.exact else "no") for e, a in own)
        print_sheet(OUT, Sheet("", ("model", "answer", "score", "exact"), rows, words=2))


def _key(item: str, ids: list[str]) -> str | None:
    if item in ids:
        return item
    if item.isdecimal() and 1 <= int(item) <= len(ids):
        return sorted(ids)[int(item) - 1]
    return None
