"""Plotly figures of the data-flow space: the best route, the Pareto front, and how the front grew.

Knows the study's data and plotly's JSON; no HTML.
"""

from __future__ import annotations

from itertools import pairwise

from evovlm.recipe.route import in_words
from evovlm.report.data import StudyData
from evovlm.report.figures import BLUE, GREY, ORANGE, RED, Figure, Json
from evovlm.study.pareto_front import front_of, growth

# Okabe and Ito's colours, one per source, repeated if there are more sources.
COLOURS = (BLUE, RED, ORANGE, "#009e73", "#cc79a7", GREY)


def route_figures(study: StudyData) -> list[Figure]:
    """The source and layer of each step of the best route, and the scales along it."""
    if study.winner is None or not study.winner.route:
        return []
    route = study.winner.route
    data: list[Json] = [_path([step.layer for step in route])]
    for index, name in enumerate(study.winner.source_names):
        own = [(at, step) for at, step in enumerate(route) if step.source == name]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [at for at, _ in own],
                "y": [step.layer for _, step in own],
                "marker": {"color": COLOURS[index % len(COLOURS)], "size": 11, "symbol": index},
                "text": [f"scale {step.scale:g}" for _, step in own],
                "hovertemplate": "step %{x}: layer %{y}<br>%{text}<extra>" + name + "</extra>",
            }
        )
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": "layer"}}, "height": 360}
    told = f"The best route passes {len(route)} layers: {in_words(route)}."
    figures = [Figure("route", "The best route", told, data, layout)]
    if any(step.scale != 1.0 for step in route):
        bars: Json = {
            "type": "bar",
            "x": list(range(len(route))),
            "y": [step.scale for step in route],
            "marker": {"color": BLUE},
        }
        axes = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": "scale"}}, "height": 260}
        told = "Input scale of each step: " + ", ".join(f"{step.scale:.2f}" for step in route) + "."
        figures.append(Figure("scales", "Scales along the route", told, [bars], axes))
    return figures


def front_figures(study: StudyData) -> list[Figure]:
    """All trials by the first two objectives with their Pareto front, and the hypervolume over generations."""
    several = [trial for trial in study.trials if trial.values]
    if not several:
        return []
    names = ["score", *study.search["objectives"]]
    best = front_of(several)
    line = sorted((trial.values[0], trial.values[1], trial.trial) for trial in best)
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trials",
            "x": [trial.values[1] for trial in several],
            "y": [trial.values[0] for trial in several],
            "marker": {"color": GREY, "size": 6, "opacity": 0.65},
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "front",
            "x": [second for _, second, _ in line],
            "y": [first for first, _, _ in line],
            "text": [f"trial {number}" for _, _, number in line],
            "line": {"color": RED, "width": 2},
            "marker": {"size": 9},
        },
    ]
    layout = {"xaxis": {"title": {"text": names[1]}}, "yaxis": {"title": {"text": names[0]}}, "height": 400}
    told = "Pareto front: " + "; ".join(
        ", ".join(f"{name} {value:.2f}" for name, value in zip(names, trial.values, strict=True)) for trial in best
    )
    volumes = growth(study.trials)
    grown: Json = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(len(volumes))),
        "y": volumes,
        "line": {"color": BLUE, "width": 2},
    }
    axes = {
        "xaxis": {"title": {"text": "generation"}},
        "yaxis": {"title": {"text": "hypervolume"}, "rangemode": "tozero"},
        "height": 300,
    }
    rise = f"Hypervolume from {volumes[0]:.1f} to {volumes[-1]:.1f} over {len(volumes)} generations."
    return [
        Figure("front", "Pareto front (higher is better for every objective)", told, data, layout),
        Figure("hypervolume", "Hypervolume over generations", rise, [grown], axes),
    ]


def _path(layers: list[int]) -> Json:
    """A thin continuous line from step to step."""
    across: list[int | float] = []
    up: list[int | float] = []
    for at, (before, after) in enumerate(pairwise(layers)):
        across += [at, at + 1]
        up += [before, after]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": across,
        "y": up,
        "line": {"color": GREY, "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }
