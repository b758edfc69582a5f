"""Assemble the report's page and write it: one HTML file that makes no network requests.

Knows the sections and figures, and plotly's script as text to inline; reads no logs itself.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from evovlm.recipe.route import in_words
from evovlm.report import _answers as answers
from evovlm.report import _sections as sections
from evovlm.report import figures
from evovlm.report._atlas import atlas_figure, atlas_section
from evovlm.report._fidelity import fidelity_figures, told
from evovlm.report._routes import front_figures, route_figures
from evovlm.report.data import StudyData, read_study
from evovlm.report.figures import Figure
from evovlm.report.head import page_head
from evovlm.report.svg import draw_scores
from evovlm.study.header import Tell, unheard
from evovlm.system.files import write_text

PAGE = "report.html"
PICTURE = "scores.svg"
# Content security policy: the browser blocks every network request, whatever a script tries.
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(study: Path, tell: Tell = unheard) -> Path:
    """Write `report.html` and `scores.svg` into a study's folder; returns the page's path.

    Also works for a study without a held-out result or without any trial, and leaves out what is damaged: `tell` is
    called with a sentence about each such file. Raises StudyError if the folder is not a study, or if its recipe or its
    log of trials is damaged.
    """
    data = read_study(study)
    for note in data.notes:
        tell(note)
    page = render(data)
    write_text(study / PICTURE, draw_scores(data))
    write_text(study / PAGE, page)
    return study / PAGE


def render(study: StudyData) -> str:
    """The page's HTML."""
    scores, history = figures.score_figure(study), figures.history_figures(study)
    best, seconds = figures.parameter_figures(study), figures.seconds_figure(study)
    routes, several = route_figures(study), front_figures(study)
    atlas, cheap = atlas_figure(study), fidelity_figures(study)
    single = [figure for figure in (atlas, seconds) if figure is not None]
    drawn = [*([scores] if study.trials else []), *best, *history, *routes, *several, *cheap, *single]
    body = [
        sections.headline(study),
        sections.plain_words(study),
        sections.section("The search", sections.plot(scores) if study.trials else "<p>No trial yet.</p>"),
        _heat_maps(study, best, history),
        _route(study, routes),
        sections.section("Several objectives", "".join(map(sections.plot, several))) if several else "",
        atlas_section(study, atlas),
        _cheap_first(study, cheap),
        answers.held_out_answers(study),
        answers.progress_answers(study),
        sections.searched(study),
        sections.section("Time", sections.plot(seconds)) if seconds else "",
        sections.log(study),
    ]
    title = f"{study.folder.resolve().name}: {' + '.join(study.recipe.source_names)}"
    return _document(title, "".join(body), drawn)


def _heat_maps(study: StudyData, best: list[Figure], history: list[Figure]) -> str:
    if not best and not history:
        return ""
    pairs = "".join(sections.plot(figure) for figure in best)
    over_time = "".join(sections.plot(figure) for figure in history)
    told = "Weight: how much of a source is added. Density: the share of its elements that is kept."
    if study.winner is not None:
        for parameter in ("weight", "density"):
            same = figures.constant(study.parameter(study.winner, parameter))
            told += "" if same is None else f" Every {parameter} is {same:.2f}."
    return sections.section(
        "Weights and densities by layer group", f'<p>{told}</p><div class="pair">{pairs}</div>{over_time}'
    )


def _route(study: StudyData, routes: list[Figure]) -> str:
    if not routes or study.winner is None:
        return ""
    told = f"<p>{escape(in_words(study.winner.route))}</p>"
    return sections.section("The best route", told + "".join(map(sections.plot, routes)))


def _cheap_first(study: StudyData, figures: list[Figure]) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in told(study))
    body = said + "".join(map(sections.plot, figures))
    return sections.section("Lower fidelity first", body) if body else ""


def _document(title: str, body: str, drawn: list[Figure]) -> str:
    here = files("evovlm.report")
    script = (here / "page.js").read_text(encoding="utf-8")
    plots = {figure.name: {"data": figure.data, "layout": figure.layout} for figure in drawn}
    # `</` inside a script element would end it.
    content = json.dumps(plots, ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    return (
        f"{page_head(title, POLICY)}<body>\n"
        f"<header><h1>{escape(title)}</h1><p>Results of an evolved merge, and how far to trust them.</p></header>\n"
        f"<main>{body}</main>\n<noscript><p>The plots need JavaScript; the tables and answers do not.</p></noscript>\n"
        f'<script type="application/json" id="figures">{content}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>{script}</script>\n</body>\n</html>\n"
    )
