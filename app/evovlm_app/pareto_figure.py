"""The Pareto front of a study's candidates: score against exact answers. Knows only trials and plotly's JSON."""

from __future__ import annotations

from collections.abc import Sequence

from evovlm.report.figures import GREY, RED, Figure
from evovlm.search.pareto import front
from evovlm.study.log import Trial


def front_figure(trials: Sequence[Trial]) -> Figure:
    """All candidates by score and percentage of exact answers, with a line through the Pareto front."""
    scored = [trial for trial in trials if trial.score is not None and trial.exact is not None]
    points = [(trial.score or 0.0, 100 * (trial.exact or 0.0)) for trial in scored]
    best = front(points)[::-1]  # from left to right
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "each trial",
            "x": [x for x, _ in points],
            "y": [y for _, y in points],
            "text": [str(trial.trial) for trial in scored],
            "marker": {"color": GREY, "size": 6, "opacity": 0.65},
            "hovertemplate": "trial %{text}<br>score %{x:.2f}, exact %{y:.1f} %<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "Pareto front",
            "x": [points[index][0] for index in best],
            "y": [points[index][1] for index in best],
            "text": [str(scored[index].trial) for index in best],
            "line": {"color": RED, "width": 2, "shape": "vh"},
            "marker": {"color": RED, "size": 9},
            "hovertemplate": "trial %{text}<br>score %{x:.2f}, exact %{y:.1f} %<extra></extra>",
        },
    ]
    layout = {
        "xaxis": {"title": {"text": "score on the search items"}},
        "yaxis": {"title": {"text": "exact answers, %"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "height": 340,
    }
    told = ", ".join(f"trial {scored[i].trial} ({points[i][0]:.2f}, {points[i][1]:.1f} %)" for i in best[-8:])
    alt = f"Pareto front of score and exact answers over {len(scored)} trials: {told or 'none yet'}."
    return Figure("front", "Score against exact answers", alt, data, layout)
