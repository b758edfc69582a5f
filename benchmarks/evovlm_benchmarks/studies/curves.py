"""Figures of studies: curves with bands, and dots in columns, as SVG with a dark and a light mode.

Knows numbers and SVG; no studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from evovlm.report.svg import ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 58, 16, 70, 48
# Okabe and Ito's colours, safe for the colour-blind.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98")
STYLE = (
    'text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.grid{stroke:#ddd}'
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"
)
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Band:
    """One arm: one curve per seed, drawn as their mean with the range from lowest to highest."""

    name: str
    curves: Sequence[Sequence[float]]

    def spread(self) -> tuple[list[float], list[float], list[float]]:
        """Lowest, mean and highest value at each point that all seeds have."""
        columns = list(zip(*self.curves, strict=False))
        low, high = [min(column) for column in columns], [max(column) for column in columns]
        return low, [sum(column) / len(column) for column in columns], high


def draw_bands(bands: Sequence[Band], path: Path, *, title: str) -> Path:
    """Write an SVG of curves over evaluations; returns its path."""
    spreads = {band.name: band.spread() for band in bands}
    # The first evaluations show little and would compress the rest.
    floor = min(mean[min(9, len(mean) - 1)] for _, mean, _ in spreads.values())
    up = ticks(floor, max(max(high) for *_, high in spreads.values()))
    across = ticks(0, max(len(mean) for _, mean, _ in spreads.values()))
    x = _scale(across[0], across[-1], LEFT, WIDTH - RIGHT)
    y = _scale(up[0], up[-1], HEIGHT - BOTTOM, TOP)
    parts = [*_frame(title, up, y), *_across(across, x, "evaluations")]
    for (low, mean, high), colour in zip(spreads.values(), COLOURS * 2, strict=False):
        edge = [*_points(high, x, y, up[0]), *reversed(_points(low, x, y, up[0]))]
        line = " ".join(_points(mean, x, y, up[0]))
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" opacity="0.13"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    return _write(parts + _legend(list(spreads)), path)


def draw_points(columns: Mapping[str, Sequence[float]], path: Path, *, title: str) -> Path:
    """Write an SVG of values between 0 and 1 as dots, one column per name, with a bar at the mean; returns its path."""
    up = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    y = _scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    parts = _frame(title, up, y)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(columns))
    for place, ((name, values), colour) in enumerate(zip(columns.items(), COLOURS * 2, strict=False)):
        middle = LEFT + width * (place + 0.5)
        for index, value in enumerate(values):
            shift = (index * 0.618 % 1 - 0.5) * width * 0.6  # spread sideways, deterministically
            parts.append(f'<circle cx="{middle + shift:.1f}" cy="{y(value):.1f}" r="4" fill="{colour}" opacity="0.6"/>')
        mean = y(sum(values) / len(values))
        ends = f'x1="{middle - width * 0.35:.1f}" x2="{middle + width * 0.35:.1f}"'
        parts.append(f'<line {ends} y1="{mean:.1f}" y2="{mean:.1f}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(name)}</text>')
    return _write(parts, path)


def _frame(title: str, up: Sequence[float], y: Scale) -> list[str]:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
    ]
    for value in up:
        at = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _across(values: Sequence[float], x: Scale, name: str) -> list[str]:
    line = HEIGHT - BOTTOM + 18
    labels = [f'<text x="{x(value):.1f}" y="{line}" text-anchor="middle">{value:g}</text>' for value in values]
    return [*labels, f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{name}</text>']


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for place, (name, colour) in enumerate(zip(names, COLOURS * 2, strict=False)):
        x, y = LEFT + 175 * (place % 4), 22 + 22 * (place // 4)
        parts.append(f'<line x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 28}" y="{y}">{escape(name)}</text>')
    return parts


def _points(values: Sequence[float], x: Scale, y: Scale, floor: float) -> list[str]:
    return [f"{x(at + 1):.1f},{y(max(value, floor)):.1f}" for at, value in enumerate(values)]


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _write(parts: Sequence[str], path: Path) -> Path:
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    return path
