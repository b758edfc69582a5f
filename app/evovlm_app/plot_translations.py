"""The report's figures in the page's language: line and axis names, hover texts, and alternative texts.

Knows the figures' English texts; draws nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evovlm.report.data import StudyData, best_so_far
from evovlm.report.figures import Figure
from evovlm_app.words import Language

# Each key must equal the English text in the figures.
JAPANESE = {
    "each trial": "各候補",
    "mean of the generation": "世代の平均",
    "best so far": "それまでの最良",
    "failed": "失敗",
    "trial": "候補",
    "generation": "世代",
    "score on the search items": "探索用の質問での得点",
    "exact answers, %": "完全一致(%)",
    "Pareto front": "パレート境界",
}
# Words inside the hover texts; longer ones first.
POINTED = {"score ": "得点 ", "exact ": "完全一致 ", "failed": "失敗", "trial ": "候補 "}


def in_language(figure: Figure, study: StudyData, language: Language) -> Figure:
    """The figure unchanged for English, or with Japanese texts."""
    if language == "en":
        return figure
    layout = dict(figure.layout)
    for axis in ("xaxis", "yaxis"):
        if axis in layout and "title" in layout[axis]:
            layout[axis] = layout[axis] | {"title": {"text": _said(layout[axis]["title"]["text"])}}
    return replace(figure, data=[_trace(trace) for trace in figure.data], layout=layout, alt=_shown(figure, study))


def _said(words: str) -> str:
    return JAPANESE.get(words, words)


def _trace(trace: dict[str, Any]) -> dict[str, Any]:
    said = dict(trace)
    if "name" in said:
        said["name"] = _said(said["name"])
    if "hovertemplate" in said:
        for english, japanese in POINTED.items():
            said["hovertemplate"] = said["hovertemplate"].replace(english, japanese)
    return said


def _shown(figure: Figure, study: StudyData) -> str:
    """The figure's alternative text in Japanese, for screen readers."""
    best = best_so_far(study.trials)
    if figure.name == "scores":
        if not best:
            return f"候補ごとの得点です。{len(study.trials)}候補のうち、まだ得点はありません。"
        return (
            f"候補ごとの得点です。{len(study.trials)}候補のうち、最初の得点は{best[0][1]:.2f}、最良は{best[-1][1]:.2f}、"
            f"失敗は{len(study.failed)}です。"
        )
    trace = figure.data[0]
    if figure.name == "front":
        front = zip(figure.data[1]["text"], figure.data[1]["x"], figure.data[1]["y"], strict=True)
        told = "、".join(f"候補{number}({x:.2f}、{y:.1f} %)" for number, x, y in list(front)[-8:])
        return f"得点と完全一致のパレート境界です:{told}。"
    ends = [(name, row[0], row[-1]) for name, row in zip(trace["y"], trace["z"], strict=True)]
    if figure.name.startswith("history"):
        told = "、".join(f"{name} {first:.2f}から{last:.2f}" for name, first, last in ends)
        return f"世代ごとの平均の、最初から最後までの変化です:{told}。"
    rows = zip(trace["y"], trace["z"], strict=True)
    told = "、".join(f"{group} " + " ".join(f"{value:.2f}" for value in row) for group, row in rows)
    return f"最良の配合の、層ごとの値です({' '.join(trace['x'])}):{told}。"
