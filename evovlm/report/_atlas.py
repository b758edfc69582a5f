"""The atlas in the report: the best merge for each skill profile, as a map and as a table.

Knows the study's data, plotly's JSON and HTML; draws nothing itself.
"""

from __future__ import annotations

from evovlm.report._sections import plot, section, table
from evovlm.report.data import StudyData
from evovlm.report.figures import Figure, Json
from evovlm.study.result import AtlasCell

FULL = 100.0


def atlas_figure(study: StudyData) -> Figure | None:
    """A heat map of the cells: the axes are the scores of two skills, the colour is the score of the cell's merge."""
    if study.atlas is None or not study.atlas.cells:
        return None
    across, up = study.atlas.axes
    steps, cells = study.atlas.steps, study.atlas.cells
    z: list[list[float | None]] = [[None] * steps for _ in range(steps)]
    words = [[""] * steps for _ in range(steps)]
    for cell in cells:
        x, y = cell.cell
        z[y][x] = round(cell.score, 2)
        words[y][x] = f"trial {cell.trial}, {cell.recipe}"
    middles = [FULL * (step + 0.5) / steps for step in range(steps)]
    data: list[Json] = [
        {
            "type": "heatmap",
            "x": middles,
            "y": middles,
            "z": z,
            "text": words,
            "colorscale": "Viridis",
            "xgap": 2,
            "ygap": 2,
            "hoverongaps": False,
            "colorbar": {"thickness": 10, "outlinewidth": 0},
            "hovertemplate": "score %{z}<br>%{text}<extra></extra>",
        }
    ]
    layout = {
        "xaxis": {"title": {"text": across}, "range": [0, FULL]},
        "yaxis": {"title": {"text": up}, "range": [0, FULL]},
        "height": 420,
    }
    best = max(cells, key=lambda cell: cell.score)
    alt = f"Atlas of {len(cells)} merges by {across} and {up}; the best scores {best.score:.2f} (trial {best.trial})."
    return Figure("atlas", "The best merge for each skill profile", alt, data, layout)


def atlas_section(study: StudyData, figure: Figure | None) -> str:
    """The map and a table of the recipes, best first."""
    if study.atlas is None or figure is None:
        return ""
    axes = list(study.atlas.axes)
    told = (
        "<p>The best candidate in each cell, by its score on the search items. A cell is ten points wide. The best of"
        " many noisy scores is biased upwards, so the last column has scores on items that no search has seen."
        " To build the model of a recipe: <code>evovlm merge STUDY/RECIPE OUT</code>.</p>"
    )
    ranked = sorted(study.atlas.cells, key=lambda cell: -cell.score)
    head = ("recipe", "trial", *axes, "score", "on fresh items")
    return section("Atlas of merges", told + plot(figure) + table(head, [_row(cell, axes) for cell in ranked]))


def _row(cell: AtlasCell, axes: list[str]) -> list[str]:
    fresh = "failed" if cell.fresh is None else f"{cell.fresh:.2f}"
    profile = [f"{cell.profile[axis]:.1f}" for axis in axes]
    return [cell.recipe, str(cell.trial), *profile, f"{cell.score:.2f}", fresh]
