"""`compare`: results side by side, with significance and the answers that changed most. Knows typer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.recipe.limits import MOST_ITEMS
from evovlm.system.errors import UserError
from evovlm_benchmarks.commands.entries import read_entries
from evovlm_benchmarks.runner.comparison import CHANCE, Entry, Versus, against, by_task
from evovlm_benchmarks.runner.tables import Sheet, made, print_sheet

Key = tuple[str, ...]


def compare(
    places: Annotated[list[Path], typer.Argument(help="Run folders or result files.")],
    to: Annotated[str | None, typer.Option(help="Model to compare the others with; default: the best.")] = None,
    changes: Annotated[int, typer.Option(min=0, max=MOST_ITEMS, help="How many changed answers to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Compare models on the same items: differences with intervals, wins and losses, most-changed answers.

    \b
    Examples:
      evovlm bench compare runs/bench
      evovlm bench compare runs/bench --to vlm --changes 10
      evovlm bench compare runs/before runs/after --json
    """
    from evovlm.cli.console import OUT

    groups = {key: group for key, group in by_task(read_entries(places)).items() if len(group) > 1}
    if not groups:
        raise UserError(
            f"{', '.join(map(str, places))}: no two results on the same items with the same scoring; nothing to compare"
        )
    told: list[dict[str, Any]] = []
    for (task, split, *_), (reference, group) in _referred(groups, to).items():
        rows = [against(reference, entry, changes=changes) for entry in group if entry is not reference]
        if as_json:
            told.append({"task": task, "split": split, "to": reference.name, **_made(reference)})
            told[-1]["versus"] = [_row(row) for row in rows]
            continue
        print_sheet(OUT, _sheet(f"{task}:{split}", reference, rows))
        for row in rows:
            if row.changes:
                print_sheet(OUT, _changes(reference, row), cut=True)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))


def _referred(groups: Mapping[Key, list[Entry]], name: str | None) -> dict[Key, tuple[Entry, list[Entry]]]:
    """Per task, the reference entry (the named one, or the best) and all entries; tasks without it are left out.

    Raises UserError if no task has the named model.
    """
    found = {}
    for key, group in groups.items():
        for entry in group:
            if name in (None, entry.name, entry.result.model):
                found[key] = entry, group
                break
    if not found:
        names = sorted({entry.name for group in groups.values() for entry in group})
        raise UserError(f"--to: no model {name!r} among the results; choose from {names}")
    return found


def _sheet(title: str, reference: Entry, rows: list[Versus]) -> Sheet:
    columns = ("model", "score", "95 %", f"minus {reference.name}", "wins", "losses", "ties")
    low, high = reference.result.ci95
    first = (reference.name, f"{reference.result.score:.2f}", f"{low:.1f} to {high:.1f}", "", "", "", "")
    lines = [
        (
            row.entry.name,
            f"{row.entry.result.score:.2f}",
            f"{row.entry.result.ci95[0]:.1f} to {row.entry.result.ci95[1]:.1f}",
            row.marked,
            *map(str, (row.wins, row.losses, row.ties)),
        )
        for row in rows
    ]
    note = f"{reference.result.items} items, paired bootstrap; {CHANCE}: the difference's 95 % interval includes zero."
    several = "" if len(rows) < 2 else f" {len(rows)} comparisons: by chance alone, one in twenty looks significant."
    results = [reference.result, *(row.entry.result for row in rows)]
    drawn = f" Items drawn by seed {reference.result.seed}."
    return Sheet(title, columns, (first, *lines), (note + several + drawn, made(results)))


def _changes(reference: Entry, row: Versus) -> Sheet:
    columns = ("item", "question", "reference", reference.name, row.entry.name, "gain")
    lines = tuple(
        (
            change.id,
            change.question[:80],
            change.references[0],
            change.first.answer[:120],
            change.second.answer[:120],
            f"{change.gain:+.1f}",
        )
        for change in row.changes
    )
    return Sheet(f"Changed most from {reference.name} to {row.entry.name}", columns, lines, words=5)


def _row(row: Versus) -> dict[str, Any]:
    return {
        "model": row.entry.name,
        "score": row.entry.result.score,
        **_made(row.entry),
        "difference": asdict(row.difference) | {"significant": row.difference.significant},
        "wins": row.wins,
        "losses": row.losses,
        "ties": row.ties,
        "changes": [
            {"id": c.id, "first": c.first.answer, "second": c.second.answer, "gain": c.gain} for c in row.changes
        ],
    }


def _made(entry: Entry) -> dict[str, Any]:
    """The items, code versions and hardware behind an entry's answers."""
    return entry.result.model_dump(mode="json", include={"items", "items_digest", "seed", "versions", "hardware"})
