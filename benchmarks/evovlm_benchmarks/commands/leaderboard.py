"""`leaderboard`: all results of a folder, best first, with the paper's figures. Knows typer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from evovlm.system.errors import UserError
from evovlm.system.files import write_text
from evovlm_benchmarks.runner.harness import TASKS, find_averages
from evovlm_benchmarks.runner.results import Result, find_results, has_results
from evovlm_benchmarks.runner.tables import Sheet, html, label, made, markdown, print_sheet

PAPER = "paper (arXiv:2403.13187)"
JP_LMEH = "jp-lmeh"
Row = dict[str, Any]


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A folder that contains run folders.")],
    out: Annotated[Path | None, typer.Option(help="Also write the leaderboard to this .md or .html file.")] = None,
    paper: Annotated[bool, typer.Option(help="Include the paper's own figures.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Rank all results of a folder, task by task. The paper's own figures are added and marked as such.

    \b
    Examples:
      evovlm bench leaderboard runs
      evovlm bench leaderboard runs --out leaderboard.html --no-paper
    """
    from evovlm.cli.console import OUT

    writers = {".md": markdown, ".html": html}
    if out is not None and (out.suffix not in writers or not out.parent.is_dir()):
        raise UserError(f"--out: {out} must end in .md or .html and be in an existing folder")
    harness = [_harness_row(row) for row in find_averages(folder)]
    found = [] if harness and not has_results(folder) else [result for _, result in find_results([folder])]
    ranked = {
        name: ranking(name, [_row(result) for result in found if result.task == name], paper) for name in _tasks(found)
    }
    if harness:
        ranked[JP_LMEH] = ranking(JP_LMEH, harness, paper)
    if as_json:
        print(json.dumps([row for rows in ranked.values() for row in rows], ensure_ascii=False))
        return
    sheets = [_sheet(name, rows, [result for result in found if result.task == name]) for name, rows in ranked.items()]
    for sheet in sheets:
        print_sheet(OUT, sheet)
    if out is not None:
        write_text(out, writers[out.suffix](sheets, "Leaderboard"))
        OUT.print(str(out))


def ranking(task: str, rows: list[Row], paper: bool) -> list[Row]:
    """One task's rows, best first. `source`: "ours" or the paper, whose rows have no interval and no item count."""
    if paper:
        text = files("evovlm_benchmarks").joinpath("paper.yaml").read_text(encoding="utf-8")
        figures: dict[str, dict[str, float]] = yaml.safe_load(text)
        given = figures.get(task, {}).items()
        rows = rows + [{"task": task, "model": model, "score": value, "source": PAPER} for model, value in given]
    return sorted(rows, key=lambda row: -row["score"])


def _row(result: Result) -> Row:
    return {
        "task": result.task,
        "model": result.model,
        "score": result.score,
        "ci95": list(result.ci95),
        "items": result.items,
        "how": label(result),
        "source": "ours",
        "seed": result.seed,
        "versions": result.versions,
        "hardware": result.hardware,
    }


def _harness_row(found: Row) -> Row:
    how = f"mean of the harness's {len(TASKS)} tasks"
    row = {"task": JP_LMEH, "model": found["model"], "score": found[JP_LMEH], "how": how, "source": "ours"}
    return row | {key: found[key] for key in ("versions", "hardware") if key in found}


def _tasks(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(result.task for result in results))


def _sheet(task: str, rows: list[Row], own: list[Result]) -> Sheet:
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
    ours = [made(own), f"Items drawn by seed {_listed(result.seed for result in own)}."] if own else []
    notes = ["The paper's rows are its own figures: the same task, but its own code and machines."]
    if task == JP_LMEH:
        notes.append("The paper averaged nine tasks of an older harness: similar, but not the same.")
    shown = notes if any(row["source"] != "ours" for row in rows) else []
    return Sheet(task, ("model", "asked", "source", "score", "95 %"), lines, (*ours, *shown), words=3)


def _listed(seeds: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(set(seeds))))
