"""Plots of how cost grows: merge time with bytes, a whole candidate's time with questions.

Knows rows of `merge_gpu` and `questions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from evovlm.system.errors import UserError

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 380, 64, 40, 24, 56
STYLE = """\
text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.grid{stroke:#ddd}
.floor{fill:none;stroke:#8a8f98;stroke-width:2}.sources,.one{fill:#d55e00}.size,.several{fill:#3a8fd6}
@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"""
GROWING = ("sources", "size")
DRAWN = ("merge", "questions")  # the parts that can be plotted
ONE, SEVERAL = "questions, one a picture", "questions, several a picture"


@dataclass(frozen=True)
class Dot:
    """A measurement at (x, y); `floor`: the hardware limit of y there."""

    x: float
    y: float
    floor: float
    kind: str
    label: str


def draw_growth(parts: Mapping[str, Sequence[dict[str, Any]]], path: Path) -> list[Path]:
    """Plot the measured parts: merges to `path`, questions to `NAME-questions` in the same folder; returns the paths.

    Raises UserError if there is nothing to plot.
    """
    merges = _merges([row for row in parts.get("merge", []) if row["what"] in GROWING])
    asked = _questions([row for row in parts.get("questions", []) if row["what"] in (ONE, SEVERAL)])
    drawn = []
    if merges:
        title = "Milliseconds a merge, against gigabytes that have to move"
        drawn.append(_draw(title, merges, "copying the bytes", path))
    if asked:
        several = next((row["questions"] for row in parts["questions"] if row["what"] == SEVERAL), "as many")
        title = f"Seconds a candidate, against questions; in blue {several} questions, several about each picture"
        drawn.append(_draw(title, asked, "floor", path.with_stem(f"{path.stem}-questions")))
    if not drawn:
        raise UserError("--plot: nothing was measured that can be plotted; name the part `merge` or `questions`")
    return drawn


def _merges(rows: Sequence[dict[str, Any]]) -> list[Dot]:
    dots = []
    for _, run in groupby(sorted(rows, key=lambda row: str(row["scale"])), key=lambda row: row["scale"]):
        same = sorted(run, key=lambda row: int(row["sources"]))
        for place, row in enumerate(same):
            # Only the first and last of a series get the full label.
            outer = place in (0, len(same) - 1)
            label = f"{row['scale']}, {row['sources']} sources" if outer else str(row["sources"])
            dots.append(Dot(row["bytes"] / 1e9, row["seconds"] * 1e3, row["floor_seconds"] * 1e3, row["what"], label))
    return dots


def _questions(rows: Sequence[dict[str, Any]]) -> list[Dot]:
    return [
        Dot(
            row["questions"],
            row["seconds"],
            row["floor_seconds"],
            "one" if row["what"] == ONE else "several",
            f"{row['questions']}" if row["what"] == ONE else f"{row['a_picture']} a picture",
        )
        for row in rows
    ]


def _draw(title: str, dots: Sequence[Dot], floor: str, path: Path) -> Path:
    from evovlm.report.svg import ticks

    most_x, most_y = 1.1 * max(dot.x for dot in dots), 1.15 * max(dot.y for dot in dots)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / most_x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="22">{escape(title)}</text>']
    for value in ticks(0.0, most_y):
        _, y = place(0.0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(0.0, most_x):
        x, y = place(value, 0.0)
        parts.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{value:g}</text>')
    for dot in dots:  # a short line at each dot's own floor
        x, y = place(dot.x, dot.floor)
        parts.append(f'<line class="floor" x1="{x - 9:.1f}" x2="{x + 9:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    last = max(dots, key=lambda dot: dot.x)
    x, y = place(last.x, last.floor)
    parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{escape(floor)}</text>')
    for dot in dots:
        x, y = place(dot.x, dot.y)
        parts.append(f'<circle class="{dot.kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(f'<text x="{x - 9:.1f}" y="{y - 8:.1f}" text-anchor="end">{escape(dot.label)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    path.write_text(f"{head}<style>{STYLE}</style>{''.join(parts)}</svg>\n", encoding="utf-8")
    return path
