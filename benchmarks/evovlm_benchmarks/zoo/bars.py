"""Draw skills as bars: one panel per skill, one bar per model. Knows only figures and SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

Skills = Mapping[str, Mapping[str, float]]  # model -> skill -> per cent

PANEL, GAP, BAR, LABEL, TOP = 330, 40, 19, 86, 34
COLUMNS = 2
STYLE = """\
text{font:13px system-ui,"Segoe UI",Roboto,sans-serif;fill:#333}.name{font-weight:600}.floor{fill:#8884}
.bar{fill:#8a8f98}.evolved{fill:#d55e00}
@media(prefers-color-scheme:dark){text{fill:#ddd}}"""


def draw_bars(skills: Skills) -> str:
    """The SVG's text. Models keep their order; those whose names begin with `evolved` are highlighted."""
    models, names = list(skills), list(next(iter(skills.values())))
    height = TOP + BAR * len(models) + 22
    rows = -(-len(names) // COLUMNS)
    width = COLUMNS * PANEL + (COLUMNS - 1) * GAP
    told = "; ".join(f"{m}: " + ", ".join(f"{n} {skills[m][n]:.0f} %" for n in names) for m in models)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows * height}" role="img">',
        f"<title>Skills of the zoo's models</title><desc>{escape(told)}</desc><style>{STYLE}</style>",
    ]
    for index, name in enumerate(names):
        x, y = index % COLUMNS * (PANEL + GAP), index // COLUMNS * height
        parts.append(f'<g transform="translate({x} {y})"><text class="name" x="{LABEL}" y="20">{escape(name)}</text>')
        parts += [_bar(model, skills[model][name], TOP + BAR * row) for row, model in enumerate(models)]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(model: str, share: float, y: int) -> str:
    room = PANEL - LABEL - 40
    kind = "bar evolved" if model.startswith("evolved") else "bar"
    return (
        f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(model)}</text>'
        f'<rect class="floor" x="{LABEL}" y="{y + 2}" width="{room}" height="{BAR - 5}"/>'
        f'<rect class="{kind}" x="{LABEL}" y="{y + 2}" width="{room * share / 100:.1f}" height="{BAR - 5}"/>'
        f'<text x="{LABEL + room + 6}" y="{y + 13}">{share:.0f} %</text>'
    )
