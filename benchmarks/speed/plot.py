"""Growth of a merge's time with sources and model size, as a static picture. Knows rows of `merge_gpu`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from evovlm.errors import UserError

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 380, 64, 40, 24, 56
STYLE = """\
text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.grid{stroke:#ddd}.floor{stroke:#8a8f98;stroke-width:2}
.sources{fill:#d55e00}.size{fill:#3a8fd6}
@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"""
GROWING = ("sources", "size")


def draw_growth(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """Milliseconds against gigabytes moved, a point a row of growth, over the line that copying draws.

    Raises UserError where no row grows.
    """
    from evovlm.report.svg import ticks

    grown = [row for row in rows if row["what"] in GROWING]
    if not grown:
        raise UserError("--plot: nothing was measured that grows; name the part `merge`")
    most_x = 1.1 * max(row["bytes"] / 1e9 for row in grown)
    most_y = 1.15 * max(row["seconds"] * 1e3 for row in grown)

    def place(gigabytes: float, milliseconds: float) -> tuple[float, float]:
        x = LEFT + gigabytes / most_x * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - milliseconds / most_y * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="22">Milliseconds a merge, against gigabytes that have to move</text>']
    for value in ticks(0.0, most_y):
        _, y = place(0.0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(0.0, most_x):
        x, y = place(value, 0.0)
        parts.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{value:g}</text>')
    # Every floor of one run lies on one line through zero: bytes over the copy rate.
    slope = grown[0]["floor_seconds"] * 1e3 / (grown[0]["bytes"] / 1e9)
    (x1, y1), (x2, y2) = place(0.0, 0.0), place(most_x, slope * most_x)
    parts.append(f'<line class="floor" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    parts.append(f'<text x="{x2 - 4:.1f}" y="{y2 + 22:.1f}" text-anchor="end">copying the bytes</text>')
    for row in grown:
        x, y = place(row["bytes"] / 1e9, row["seconds"] * 1e3)
        label = f"{row['scale']}, {row['sources']} sources"
        parts.append(f'<circle class="{row["what"]}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        parts.append(f'<text x="{x - 9:.1f}" y="{y - 8:.1f}" text-anchor="end">{escape(label)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    path.write_text(f"{head}<style>{STYLE}</style>{''.join(parts)}</svg>\n", encoding="utf-8")
    return path
