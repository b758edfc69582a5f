"""A static plot of the score over trials, for pages without scripts.

Knows the study's data and SVG; no plotly. It follows the reader's dark or light mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from evovlm.report.data import StudyData, best_so_far, generation_means, read_study
from evovlm.report.figures import score_figure
from evovlm.system.files import write_text

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 44, 48
STYLE = """\
text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.grid{stroke:#ddd}.dot{fill:#8a8f98;opacity:.6}
.best{fill:none;stroke:#d55e00;stroke-width:3}.mean{fill:none;stroke:#3a8fd6;stroke-width:2;stroke-dasharray:3 4}
@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"""
LEGEND = (
    (0, '<circle class="dot" cx="9" cy="-4" r="4"/>', "each trial"),
    (110, '<line class="mean" x1="0" x2="20" y1="-4" y2="-4"/>', "mean of the generation"),
    (300, '<line class="best" x1="0" x2="20" y1="-4" y2="-4"/>', "best so far"),
)
Scale = Callable[[float], float]


def write_svg(study: Path, path: Path) -> Path:
    """Draw the score over trials of the study in folder `study` into `path`. Raises StudyError if it is not a study."""
    write_text(path, draw_scores(read_study(study)))
    return path


def draw_scores(study: StudyData) -> str:
    """The plot of the score over trials, as SVG text."""
    scored = [(trial.trial, trial.score) for trial in study.trials if trial.score is not None]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Score over trials</title><desc>{escape(score_figure(study).alt)}</desc><style>{STYLE}</style>",
    ]
    if not scored:
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no trial has a score yet</text>')
        return "\n".join([*parts, "</svg>"]) + "\n"
    across = ticks(0, max(trial.trial for trial in study.trials) or 1)
    up = ticks(min(score for _, score in scored), max(score for _, score in scored))
    x = _scale(across[0], across[-1], LEFT, WIDTH - RIGHT)
    y = _scale(up[0], up[-1], HEIGHT - BOTTOM, TOP)
    parts += _axes(across, up, x, y)
    parts += [f'<circle class="dot" cx="{x(trial):.1f}" cy="{y(score):.1f}" r="3"/>' for trial, score in scored]
    parts.append(f'<polyline class="mean" points="{_points(generation_means(study.trials), x, y)}"/>')
    parts.append(f'<polyline class="best" points="{_points(_steps(best_so_far(study.trials)), x, y)}"/>')
    parts += [
        f'<g transform="translate({LEFT + shift} 24)">{mark}<text x="26" y="0">{name}</text></g>'
        for shift, mark, name in LEGEND
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About `about` round numbers that cover the range from `low` to `high`."""
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _axes(across: Sequence[float], up: Sequence[float], x: Scale, y: Scale) -> list[str]:
    lines = []
    for value in up:
        at = y(value)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    floor = HEIGHT - BOTTOM
    lines += [f'<text x="{x(value):.1f}" y="{floor + 18}" text-anchor="middle">{value:g}</text>' for value in across]
    lines.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">trial</text>')
    middle = (TOP + floor) / 2
    lines.append(f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">score</text>')
    return lines


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corner points of a step line through the points."""
    corners: list[tuple[float, float]] = []
    for at, value in points:
        if corners:
            corners.append((at, corners[-1][1]))
        corners.append((at, value))
    return corners


def _points(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    return " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
