"""Plotly figures of a study, as plain mappings of data and layout.

Knows the study's data and plotly's JSON; no HTML. Colours are Okabe and Ito's, safe for colour-blind readers and
legible in dark and light mode; the page sets the colours of text and grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evovlm.recipe.layer_groups import group_in_words
from evovlm.report.data import StudyData, best_so_far, by_generation, generation_means, seconds_by_phase
from evovlm.system.units import duration

BLUE, ORANGE, GREY, RED = "#3a8fd6", "#e69f00", "#8a8f98", "#d55e00"
Json = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One plot. `alt`: a text alternative for screen readers."""

    name: str
    title: str
    alt: str
    data: list[Json]
    layout: Json


def score_figure(study: StudyData) -> Figure:
    """Every trial, the best so far and the mean of each generation; failed trials are at the bottom."""
    scored, best, means = study.scored, best_so_far(study.trials), generation_means(study.trials)
    floor = min((trial.score for trial in scored if trial.score is not None), default=0.0)
    data: list[Json] = [
        {
            **_line("each trial", [trial.trial for trial in scored], [trial.score for trial in scored], "markers"),
            "marker": {"color": GREY, "size": 6, "opacity": 0.65},
            "hovertemplate": "trial %{x}<br>score %{y:.2f}<extra></extra>",
        },
        {
            **_line("mean of the generation", [x for x, _ in means], [y for _, y in means], "lines+markers"),
            "line": {"color": BLUE, "width": 2, "dash": "dot"},
            "marker": {"color": BLUE, "size": 7, "symbol": "diamond"},
        },
        {
            **_line("best so far", [x for x, _ in best], [y for _, y in best], "lines"),
            "line": {"color": RED, "width": 3, "shape": "hv"},
        },
    ]
    if study.failed:
        data.append(
            {
                **_line("failed", [t.trial for t in study.failed], [floor] * len(study.failed), "markers"),
                "marker": {"color": ORANGE, "size": 9, "symbol": "x"},
                "text": [t.error for t in study.failed],
                "hovertemplate": "trial %{x} failed<br>%{text}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "trial"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "score on the search items"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "height": 380,
    }
    return Figure("scores", "Score over trials", _score_alt(study, best), data, layout)


def parameter_figures(study: StudyData) -> list[Figure]:
    """Heat maps of the winner's weights and densities: sources across, layer groups down."""
    if study.winner is None or study.routed:
        return []
    sources, groups = list(study.winner.source_names), [group_in_words(group) for group in study.groups()]
    figures = []
    for parameter, title in (("weight", "Weights"), ("density", "Densities")):
        values = study.parameter(study.winner, parameter)
        if constant(values) is not None:
            continue
        down = [[values[s][g] for s in range(len(sources))] for g in range(len(groups))]
        told = "; ".join(
            f"{source}: " + ", ".join(f"{group} {value:.2f}" for group, value in zip(groups, own, strict=True))
            for source, own in zip(sources, values, strict=True)
        )
        layout = {
            "yaxis": {"autorange": "reversed", "type": "category"},
            "xaxis": {"type": "category", "side": "top"},
            "height": 110 + 34 * len(groups),
        }
        alt = f"{title} of the best recipe by source and layer group. {told}."
        data = [_heat(sources, groups, down, study.ceiling(parameter), numbers=True)]
        figures.append(Figure(f"best-{parameter}", f"{title} of the best recipe", alt, data, layout))
    return figures


def constant(values: Sequence[Sequence[float]]) -> float | None:
    """The value that all have; None if they differ, or are none."""
    found = {value for row in values for value in row}
    return found.pop() if len(found) == 1 else None


def history_figures(study: StudyData) -> list[Figure]:
    """Heat maps of the search's progress: the mean of each gene in each generation."""
    generations = [trials[0].generation for trials in by_generation(study.trials)]
    if len(generations) < 2 or study.routed:
        return []
    means = study.gene_means()
    figures = []
    for parameter, title in (("weight", "Weights over the search"), ("density", "Densities over the search")):
        rows = [index for index, gene in enumerate(study.genes) if gene.parameter == parameter]
        if not rows:
            continue
        names = [f"{study.genes[index].source} · {group_in_words(study.genes[index].group)}" for index in rows]
        values = [means[index] for index in rows]
        told = ", ".join(f"{n} {own[0]:.2f} to {own[-1]:.2f}" for n, own in zip(names, values, strict=True))
        alt = f"Mean {parameter} of each gene, from the first generation to the last: {told}."
        layout = {
            "xaxis": {"title": {"text": "generation"}, "dtick": max(1, len(generations) // 8)},
            "yaxis": {"autorange": "reversed", "type": "category"},
            "height": 120 + 22 * len(names),
        }
        data = [_heat(generations, names, values, study.ceiling(parameter), numbers=False)]
        figures.append(Figure(f"history-{parameter}", title, alt, data, layout))
    return figures


def seconds_figure(study: StudyData) -> Figure | None:
    """The time of all trials per phase, in seconds."""
    total = seconds_by_phase(study.trials)
    if not total:
        return None
    count = len(study.trials)
    told = ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in total.items())
    data: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [round(seconds, 3) for seconds in total.values()],
            "y": list(total),
            "text": [f"{duration(seconds)} ({seconds / count:.2f} s per trial)" for seconds in total.values()],
            "textposition": "auto",
            "marker": {"color": BLUE},
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
    ]
    layout = {
        "xaxis": {"title": {"text": "seconds, total of all trials"}, "rangemode": "tozero"},
        "yaxis": {"autorange": "reversed", "type": "category"},
        "height": 130 + 40 * len(total),
    }
    return Figure("seconds", "Time per phase", f"Time of {count} trials per phase: {told}.", data, layout)


def _line(name: str, x: Sequence[float], y: Sequence[float | None], mode: str) -> Json:
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), "mode": mode}


def _heat(x: Sequence[Any], y: Sequence[str], z: list[list[float]], top: float, *, numbers: bool) -> Json:
    """A heat map: Viridis from 0 to `top`, or red and blue around 0. Both are safe for colour-blind readers."""
    values = [value for row in z for value in row]
    most = max(top, *(abs(value) for value in values))
    negative = min(values) < 0
    scale: Json = {"colorscale": "RdBu" if negative else "Viridis", "zmin": -most if negative else 0, "zmax": most}
    heat: Json = {
        "type": "heatmap",
        "x": list(x),
        "y": list(y),
        "z": z,
        "xgap": 2 if numbers else 0,
        "ygap": 2,
        "colorbar": {"thickness": 10, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>%{x}: %{z:.3f}<extra></extra>",
    }
    if numbers:
        heat |= {"texttemplate": "%{z:.2f}"}
    return heat | scale


def _score_alt(study: StudyData, best: list[tuple[int, float]]) -> str:
    if not best:
        return f"Score over trials: {len(study.trials)} trials, none has a score yet."
    at = next(trial for trial, score in best if score == best[-1][1])
    return (
        f"Score over {len(study.trials)} trials. The first scored {best[0][1]:.2f}; the best, trial {at},"
        f" {best[-1][1]:.2f}. {len(study.failed)} trials failed."
    )
