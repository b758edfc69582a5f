"""The rows of a rehearsal: kept in a file as they are measured, and shown as a table and a plot.

Knows rows and files; runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError
from rich.table import Table

from evovlm.system import files
from evovlm.system.errors import UserError

ROWS = "rows.jsonl"
COLUMNS = ("step", "s", "floor, s", "ratio", "silent, s", "host GB", "GPU GB", "remarks")
WIDTH, ROW, LEFT, BAR = 760, 26, 250, 12  # pixels
STYLE = """\
text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.taken{fill:#d55e00}.floor{fill:#8a8f98}
@media(prefers-color-scheme:dark){text{fill:#ddd}}"""

Row = dict[str, Any]


class _Shape(BaseModel, extra="ignore", strict=True):
    """What the table and the plot need of a row."""

    step: str
    seconds: FiniteFloat | None = None
    floor: FiniteFloat | None = None
    ratio: FiniteFloat | None = None
    silence: FiniteFloat | None = None
    host: FiniteFloat | None = None
    gpu: FiniteFloat | None = None
    failed: str | None = None
    told: list[str] = []
    slower: list[str] = []


def read_rows(folder: Path, tell: Callable[[str], None] | None = None) -> dict[str, Row]:
    """The rows measured so far, by step; the last one of a step counts.

    Damaged lines are left out, and `tell` is called with a sentence on them. Without `tell`, and if the file is no
    regular one, UserError is raised.
    """
    path = folder / ROWS
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a file; remove it, and run the same command again")
    found: dict[str, Row] = {}
    unfit = []
    for number, row in files.numbered_rows(path, tell):
        if _is_row(row):
            found[row["step"]] = row
        else:
            unfit.append(number)
    if unfit:
        sentence = files.left_out(path, unfit, "not the row of a step")
        if tell is None:
            raise UserError(sentence)
        tell(sentence)
    return found


def _is_row(content: dict[str, Any]) -> bool:
    try:
        _Shape.model_validate(content)
    except ValidationError:
        return False
    return True


def keep(folder: Path, row: Row) -> None:
    """Append a row to the file."""
    files.append_rows(folder / ROWS, [row])


def table(rows: Sequence[Row], title: str) -> Table:
    """A row per step for a terminal; `silent`: the longest time without output; memory at its peak."""
    shown = Table(title=title)
    for column in COLUMNS[:-1]:
        shown.add_column(column, justify="left" if column == "step" else "right")
    for row in rows:
        cells = _cells(row)[:-1]
        shown.add_row(cells[0], f"failed ({cells[1]})", *cells[2:]) if row.get("failed") else shown.add_row(*cells)
    return shown


def markdown(rows: Sequence[Row]) -> str:
    """The same rows as a Markdown table, with what studies say of themselves, and the sentences on slower ways."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)]) + "\n"


def _cells(row: Row) -> list[str]:
    """A row's cells, in the order of `COLUMNS`."""
    figures = [
        f"{row[key]:,.{digits}f}" if row.get(key) else ""
        for key, digits in (("seconds", 1), ("floor", 2), ("ratio", 2))
    ]
    memory = [f"{row[key] / 1e9:.1f}" if row.get(key) else "" for key in ("host", "gpu")]
    silence = f"{row['silence']:.0f}" if row.get("silence") else ""
    failed = row.get("failed")
    return [
        row["step"],
        *figures,
        silence,
        *memory,
        f"failed: {failed}" if failed else "; ".join([*row.get("told", []), *row.get("slower", [])]),
    ]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot seconds by step beside their floors as an SVG, on a logarithmic scale from 0.01 s."""
    timed = [row for row in rows if row.get("seconds")]
    height = ROW * (len(timed) + 2)
    most = max((row["seconds"] for row in timed), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"><style>{STYLE}</style>',
        "<text x='8' y='18'>Seconds of each step (orange), floor (grey); each tenfold has the same width</text>",
    ]
    for number, row in enumerate(timed, start=1):
        y = ROW * number + 8
        told = f"{row['seconds']:,.1f} s" + (f", floor {row['floor']:,.2f} s" if row.get("floor") else "")
        width = _width(row["seconds"], most)
        parts.append(f"<text x='8' y='{y + BAR}'>{escape(row['step'])}</text>")
        parts.append(f"<rect class='taken' x='{LEFT}' y='{y}' width='{width:.1f}' height='{BAR}'/>")
        if row.get("floor"):
            short = _width(row["floor"], most)
            parts.append(f"<rect class='floor' x='{LEFT}' y='{y + BAR}' width='{short:.1f}' height='4'/>")
        parts.append(f"<text x='{LEFT + width + 6:.1f}' y='{y + BAR}'>{told}</text>")
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _width(seconds: float, most: float) -> float:
    """Width of a bar in pixels: the logarithm above 0.01 s; the longest leaves room for its text."""
    whole = WIDTH - LEFT - 190
    return whole * max(0.0, log10(max(seconds, 0.01) / 0.01)) / max(log10(max(most, 0.011) / 0.01), 1e-9)
