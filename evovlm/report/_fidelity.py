"""Cheap against full scores in the report: how well a lower fidelity ranked the candidates.

Knows the study's data and plotly's JSON; no HTML.
"""

from __future__ import annotations

from evovlm.report.data import StudyData, by_generation
from evovlm.report.figures import BLUE, GREY, Figure, Json
from evovlm.system.statistics import rank_agreement


def fidelity_figures(study: StudyData) -> list[Figure]:
    """Scores of promoted candidates at both fidelities, and rank agreement of each fully promoted generation."""
    pairs = [(t.cheap, t.score) for t in study.trials if t.cheap is not None and t.score is not None and t.promoted]
    if not pairs:
        return []
    cheap_alone = sum(1 for trial in study.trials if not trial.promoted)
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [cheap for cheap, _ in pairs],
            "y": [score for _, score in pairs],
            "marker": {"color": BLUE, "size": 7, "opacity": 0.7},
            "hovertemplate": "cheap %{x:.2f}<br>full %{y:.2f}<extra></extra>",
        }
    ]
    layout: Json = {
        "xaxis": {"title": {"text": "score at lower fidelity"}},
        "yaxis": {"title": {"text": "score at full fidelity"}},
        "height": 360,
    }
    alt = f"{len(pairs)} candidates were evaluated at lower and then at full fidelity; {cheap_alone} at lower only."
    return [Figure("fidelity", "Lower fidelity against full fidelity", alt, data, layout), *_agreement(study)]


def told(study: StudyData) -> list[str]:
    """What was told of the search's lower fidelity: what it is, and what followed from each audit."""
    return [
        str(event["told"]) for event in study.events if event.get("event") in ("fidelity", "audit") and "told" in event
    ]


def agreements(study: StudyData) -> list[tuple[int, float, int]]:
    """(generation, Kendall's tau, candidates) of each generation with both scores for all candidates."""
    found = []
    for trials in by_generation(study.trials):
        scored = [trial for trial in trials if trial.score is not None and trial.told]
        pairs = [(t.cheap, t.score) for t in scored if t.cheap is not None and t.score is not None and t.promoted]
        if len(pairs) >= 2 and len(pairs) == len(scored):
            tau = rank_agreement([cheap for cheap, _ in pairs], [score for _, score in pairs])
            found.append((trials[0].generation, tau, len(pairs)))
    return found


def _agreement(study: StudyData) -> list[Figure]:
    found = agreements(study)
    if not found:
        return []
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [generation for generation, _, _ in found],
            "y": [round(tau, 3) for _, tau, _ in found],
            "text": [f"{count} candidates" for _, _, count in found],
            "line": {"color": GREY},
            "marker": {"color": BLUE, "size": 9},
            "hovertemplate": "generation %{x}: tau %{y:.2f}, %{text}<extra></extra>",
        }
    ]
    layout: Json = {
        "xaxis": {"title": {"text": "generation"}},
        "yaxis": {"title": {"text": "Kendall's tau"}, "range": [-1, 1]},
        "height": 300,
    }
    each = "; ".join(f"generation {generation}: {tau:.2f}" for generation, tau, _ in found)
    return [Figure("agreement", "Rank agreement of cheap and full scores", f"Kendall's tau: {each}.", data, layout)]
