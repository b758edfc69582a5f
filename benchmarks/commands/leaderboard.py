"""`leaderboard`: every result of a folder, best first, beside the paper's figures. Knows typer."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks.results import Result, find_results
from benchmarks.tables import Sheet, html, label, markdown, print_sheet
from evovlm.errors import UserError
from evovlm.study_log import write_text

PAPER = "paper (arXiv:2403.13187)"


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A folder of run folders.")],
    out: Annotated[Path | None, typer.Option(help="Write it here too, as .md or .html.")] = None,
    paper: Annotated[bool, typer.Option(help="The paper's own figures beside ours.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Rank all results of a folder, task by task. Rows of the paper are its own figures and marked so.

    \b
    Examples:
      evovlm bench leaderboard runs
      evovlm bench leaderboard runs --out leaderboard.html --no-paper
    """
    from evovlm.console import OUT

    writers = {".md": markdown, ".html": html}
    if out is not None and (out.suffix not in writers or not out.parent.is_dir()):
        raise UserError(f"--out: {out} is no .md or .html file in a folder that there is")
    found = [result for _, result in find_results([folder])]
    if as_json:
        print(json.dumps([row for name in _tasks(found) for row in rows_of(found, name, paper)], ensure_ascii=False))
        return
    sheets = [_sheet(found, name, paper) for name in _tasks(found)]
    for sheet in sheets:
        print_sheet(OUT, sheet)
    if out is not None:
        write_text(out, writers[out.suffix](sheets, "Leaderboard"))
        OUT.print(str(out))


def rows_of(results: list[Result], task: str, paper: bool) -> list[dict[str, Any]]:
    """One task's rows, the best first. `source`: "ours" or the paper; the paper gives no interval and no items."""
    rows: list[dict[str, Any]] = [
        {
            "task": task,
            "model": result.model,
            "score": result.score,
            "ci95": list(result.ci95),
            "items": result.items,
            "how": label(result),
            "source": "ours",
        }
        for result in results
        if result.task == task
    ]
    if paper:
        text = files("benchmarks").joinpath("paper.yaml").read_text(encoding="utf-8")
        figures: dict[str, dict[str, float]] = yaml.safe_load(text)
        for model, value in figures.get(task, {}).items():
            rows.append({"task": task, "model": model, "score": value, "source": PAPER})
    return sorted(rows, key=lambda row: -row["score"])


def _tasks(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(result.task for result in results))


def _sheet(results: list[Result], task: str, paper: bool) -> Sheet:
    rows = rows_of(results, task, paper)
    lines = tuple(
        (
            row["model"],
            row.get("how", ""),
            row["source"],
            f"{row['score']:.2f}",
            f"{row['ci95'][0]:.1f} to {row['ci95'][1]:.1f}" if "ci95" in row else "",
        )
        for row in rows
    )
    notes = ("The paper's rows are its own figures: same task, its own code and machines.",)
    shown = notes if any(row["source"] != "ours" for row in rows) else ()
    return Sheet(task, ("model", "asked", "source", "score", "95 %"), lines, shown, words=3)
