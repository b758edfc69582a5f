"""`evovlm bench speed`: time to merge and evaluate a candidate, against the hardware limit.

Knows the parts' names and rows; measures nothing itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.cli.console import ERR, OUT
from evovlm.cli.paths import new_file
from evovlm.system.device import check_device, current_gpu
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged
from evovlm.system.version import commit, hardware, versions
from evovlm_benchmarks.merge_speed import SCALES
from evovlm_benchmarks.mergekit_program import mergekit_program
from evovlm_benchmarks.runner.tables import Sheet, print_sheet
from evovlm_benchmarks.speed.floors import Rates, measure_rates
from evovlm_benchmarks.speed.merge_gpu import METHODS
from evovlm_benchmarks.speed.parts import PARTS
from evovlm_benchmarks.speed.plot import DRAWN, draw_growth
from evovlm_benchmarks.speed.settings import Settings

SHOWN = ("what", "tool", "method", "scale", "sources", "shape", "place", "questions", "a_picture")
# Keys of a row by their columns, which are short so that a table fits 80 columns of a terminal.
# Shown if a part compares ways of answering.
RANKS = {"mean_score": "score", "equal_answers": "equal", "kendall": "kendall", "spearman": "spearman"}
# Whether the best one in full is the best here, or in the better half.
BEST = {"same_best": "best", "best_promoted": "half"}
FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "ms": lambda row: f"{row['seconds'] * 1e3:,.2f}" if "seconds" in row else "",
    "floor": lambda row: f"{row['floor_seconds'] * 1e3:,.2f}" if row.get("floor_seconds") else "",
    "x floor": lambda row: f"{row['ratio']:.2f}" if row.get("ratio") else "",
    "error": lambda row: f"{row['error']:.0e}" if "error" in row else "",
    "peak GB": lambda row: f"{row['peak_bytes'] / 1e9:.2f}" if row.get("peak_bytes") else "",
}


def speed(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Parts: {', '.join(PARTS)}; default: all.")] = None,
    device: Annotated[str, typer.Option(help="Where to measure: cpu, cuda, cuda:1.")] = "cpu",
    scale: Annotated[
        str | None, typer.Option(help=f"Model size: {', '.join(SCALES)}; default: small on a CPU, 7b on a GPU.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Measure only the figures that have targets.")] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this method in the parts `methods` and `prepare`; repeat for several."),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(min=2, max=1000, help="Candidates that the part `ranks` compares; default: 12.")
    ] = None,
    mergekit: Annotated[Path | None, typer.Option(help="Path of mergekit-yaml, in mergekit's own environment.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for temporary checkpoints.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=new_file, help="Write all figures to this JSON file as they are measured.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(callback=new_file, help="Plot growth to this SVG: of `merge` and `questions`.")
    ] = None,
) -> None:
    """Report time per phase and candidate, against the hardware limit measured in the same run.

    Examples:
      evovlm bench speed merge
      evovlm bench speed --device cuda --out speed.json --plot growth.svg
      evovlm bench speed disk --mergekit ~/mergekit/bin/mergekit-yaml
    """
    chosen = parts or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise UserError(f"unknown part {abridged(unknown[0])!r}; choose from {list(PARTS)}")
    for flag, folder in (("--out", out and out.parent), ("--plot", plot and plot.parent), ("--work", work)):
        if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise UserError(
                f"{flag}: {abridged(str(folder), 200)} is not a writable folder; create it or choose another"
            )
    if plot is not None and not set(chosen) & set(DRAWN):
        raise UserError(f"--plot: nothing to plot in {chosen}; add the part {' or '.join(DRAWN)}, or omit --plot")
    on = check_device(device)
    scale = scale or ("7b" if on.type == "cuda" else "small")
    if method and not {"methods", "prepare"} & set(chosen):
        raise UserError("--method: is for the parts `methods` and `prepare`, neither of which is to be measured")
    if candidates is not None and "ranks" not in chosen:
        raise UserError("--candidates: is for the part `ranks`, which is not among those to measure")
    for name in method or ():
        if name not in METHODS:
            raise UserError(f"--method: unknown method {abridged(name)!r}; choose from {list(METHODS)}")
    if scale not in SCALES:
        raise UserError(f"--scale: choose from {list(SCALES)}")
    settings = Settings(on, scale, quick, mergekit_program(mergekit), work, tuple(method or ()), candidates)
    with current_gpu(on):
        found = _measured(chosen, settings, out)
    if plot is not None:
        draw_growth(found, plot)


def _measured(chosen: Sequence[str], settings: Settings, out: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Each part's rows, printed and written as they are measured."""
    rates, machine = measure_rates(settings.device), hardware(str(settings.device))
    told = {"hardware": machine, "versions": versions(), "commit": commit(), "rates": rates.as_dict()}
    OUT.print(_rates_in_words(machine, rates))
    found: dict[str, list[dict[str, Any]]] = {}
    for name in chosen:
        found[name] = []
        ERR.print(f"{name}: tower {settings.scale} on {settings.device}", style="dim")
        for row in PARTS[name](settings, rates):
            found[name].append(row)
            ERR.print(f"{name}: {_in_words(row)}", style="dim")
            if out is not None:
                out.write_text(json.dumps(told | {"parts": found}, indent=1) + "\n", encoding="utf-8")
        if found[name]:
            print_sheet(OUT, sheet_of(name, found[name]))
        else:
            OUT.print(f"{name}: nothing to measure on {settings.device}")
    return found


def _in_words(row: dict[str, Any]) -> str:
    """One line on a row, as soon as it is measured."""
    labels = [str(row[label]) for label in SHOWN if label in row]
    figures = [f"{cell} {column}" for column, figure in FIGURES.items() if (cell := figure(row))]
    ranks = [f"{label} {row[label]:.3f}" for label in RANKS if row.get(label) is not None]
    return ", ".join([*labels, *figures, *ranks])


def _rates_in_words(machine: str, rates: Rates) -> str:
    upload = f", from pinned memory {rates.upload / 1e9:,.1f} GB/s" if rates.upload else ""
    return (
        f"{machine}: copies {rates.copy / 1e9:,.1f} GB/s (read and written){upload},"
        f" multiplies {rates.matrix / 1e12:,.2f} TFLOP/s ({rates.dtype})"
    )


def sheet_of(name: str, rows: Sequence[dict[str, Any]]) -> Sheet:
    """A part's rows as a table; values that are the same in all rows go into the title."""
    labels = [label for label in SHOWN if any(label in row for row in rows)]
    same = [label for label in labels[1:] if len({str(row.get(label, "")) for row in rows}) == 1]
    labels = [label for label in labels if label not in same]
    columns = {label: [str(row.get(label, "")) for row in rows] for label in labels}
    for label, head in RANKS.items():
        columns[head] = [f"{row[label]:.3f}" if row.get(label) is not None else "" for row in rows]
    for label, head in BEST.items():
        columns[head] = [("yes" if row[label] else "no") if label in row else "" for row in rows]
    columns |= {column: [figure(row) for row in rows] for column, figure in FIGURES.items()}
    shown = {column: cells for column, cells in columns.items() if column in labels or any(cells)}
    title = ", ".join([name, *(f"{label} {rows[0][label]}" for label in same)])
    return Sheet(title, tuple(shown), tuple(zip(*shown.values(), strict=True)), words=len(labels))
