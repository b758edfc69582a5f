"""The tab Evolution: a study as its log tells it, live while a search runs; start, stop, go on.

Knows gradio, searches and studies; runs no search itself.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from app.front import front_figure
from app.guard import guarded
from app.house import PRIVATE, House
from app.searches import MOST_ITEMS, MOST_TRIALS
from app.studyview import changed_answers, held_out_table, stamp, state_line
from app.words import Language, say
from evovlm.errors import StudyError
from evovlm.recipe_file import recipe_text
from evovlm.report.data import StudyData, read_study
from evovlm.report.figures import Figure, history_figures, parameter_figures, score_figure

EVERY = 2.0  # seconds between looks at the log
PLOTS = ("scores_plot", "pareto_plot", "weights_plot", "densities_plot", "history_plot")
# Legible on dark and light alike; the page's colours shine through.
LAYOUT = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "#808895", "family": "system-ui, sans-serif"},
    "margin": {"l": 64, "r": 16, "t": 84, "b": 48},
    "autosize": True,
}
GRID = {"gridcolor": "rgba(128,136,149,0.25)", "zerolinecolor": "rgba(128,136,149,0.4)", "automargin": True}


def build_evolution(house: House, *, may_search: bool) -> Any:
    """The tab's components and what they do. Returns the event that shows the newest study, to run on load."""
    speak, names = house.speak, house.offering.study_names()
    speak(gr.Markdown(elem_classes="intro"), value="evolution_intro")
    newest = names[-1] if names else None
    study = speak(gr.Dropdown(names[::-1], value=newest, elem_id="evolution-study"), label="study")
    controls = _controls(house) if may_search else None
    state = gr.HTML(elem_id="evolution-state")
    with gr.Row():
        plots = [_plot(house, key) for key in PLOTS[:2]]
    with gr.Row():
        plots += [_plot(house, key) for key in PLOTS[2:4]]
    plots.append(_plot(house, PLOTS[4]))
    words = gr.HTML(elem_id="evolution-words", elem_classes="scroll")
    recipe = speak(gr.Code(language="yaml", elem_id="evolution-recipe"), label="best_recipe")
    seen = gr.State(None)
    shown = [seen, state, *plots, words, recipe]

    def look(name: str | None, before: Any, language: Language) -> list[Any]:
        return _look(house, name, before, language)

    inputs = [study, seen, house.language]
    quiet = {"queue": False, "show_progress": "hidden", **PRIVATE}
    gr.Timer(EVERY).tick(look, inputs, shown, **quiet)
    study.change(look, inputs, shown, **quiet)
    if controls is not None:
        _connect(house, controls, study)
    return lambda event: event(look, inputs, shown, **quiet)


def _plot(house: House, key: str) -> Any:
    return house.speak(gr.Plot(elem_id=f"evolution-{key.replace('_', '-')}", min_width=300), label=key)


def _look(house: House, name: str | None, before: Any, language: Language) -> list[Any]:
    """What to show of a study; nothing changes where its log has not."""
    skipped = [gr.skip() for _ in range(4 + len(PLOTS))]
    if not name:
        empty = escape(say("no_study", language))
        return [None, f'<p class="state" data-state="none">{empty}</p>', *skipped[2:]]
    with guarded("evolution", language):
        if name not in house.offering.study_names():
            return skipped  # a search that starts has no header yet
        folder = house.offering.study(name)
        now = (*stamp(folder, house.searches), language)
        if before is not None and tuple(before) == now:
            return skipped
        try:
            study = read_study(folder)
        except StudyError:
            return skipped  # half written: the next look finds it whole
        figures = _figures(study)
        alts = "".join(f'<p class="sr-only">{escape(figure.alt)}</p>' for figure in figures if figure is not None)
        words = held_out_table(study, language) + changed_answers(study, language) + alts
        recipe = recipe_text(study.winner) if study.winner is not None else ""
        return [now, state_line(study, house.searches, language), *map(_drawn, figures), words, recipe]


def _figures(study: StudyData) -> list[Figure | None]:
    found = {figure.name: figure for figure in [*parameter_figures(study), *history_figures(study)]}
    return [
        score_figure(study),
        front_figure(study.trials),
        found.get("best-weight"),
        found.get("best-density"),
        found.get("history-weight"),
    ]


def _drawn(figure: Figure | None) -> Any:
    if figure is None:
        return gr.update(value=None, visible=False)
    # The field's name stands over the plot's upper left corner.
    layout = LAYOUT | figure.layout | {"height": figure.layout["height"] + 44}
    for axis in ("xaxis", "yaxis"):
        layout[axis] = GRID | figure.layout.get(axis, {})
    return gr.update(value=go.Figure({"data": figure.data, "layout": layout}), visible=True)


def _controls(house: House) -> dict[str, Any]:
    """The fields and buttons of a search."""
    speak, kitchens = house.speak, [kitchen for kitchen in house.offering.kitchens if kitchen.recipe.search]
    names = [kitchen.name for kitchen in kitchens]
    with speak(gr.Accordion(open=False, elem_id="evolution-controls"), label="start"):
        with gr.Row():
            recipe = speak(gr.Dropdown(names, value=names[0] if names else None, min_width=140), label="recipe")
            name = gr.Textbox("my-search", max_length=40, elem_id="evolution-name", min_width=140)
            speak(name, label="name", info="name_hint")
        with gr.Row():
            trials = gr.Slider(1, MOST_TRIALS, value=40, step=1, elem_id="evolution-trials", min_width=140, buttons=[])
            items = gr.Slider(4, MOST_ITEMS, value=64, step=1, elem_id="evolution-items", min_width=140, buttons=[])
            speak(trials, label="trials")
            speak(items, label="items")
            seed = speak(gr.Number(0, precision=0, minimum=0, min_width=80), label="seed")
        start = speak(gr.Button(variant="primary", elem_id="evolution-start"), value="run_search")
    with gr.Row():
        stop = speak(gr.Button(size="sm", elem_id="evolution-stop"), value="stop_search")
        go_on = speak(gr.Button(size="sm", elem_id="evolution-go-on"), value="go_on")
    return {"fields": [recipe, name, trials, items, seed], "start": start, "stop": stop, "go_on": go_on}


def _connect(house: House, controls: dict[str, Any], study: Any) -> None:
    searches = house.searches

    def start(recipe: str, name: str, trials: float, items: float, seed: float, language: Language) -> Any:
        with guarded("search", language):
            searches.start(name.strip(), house.offering.kitchen(recipe or ""), int(trials), int(items), int(seed or 0))
            names = [known for known in house.offering.study_names() if known != name.strip()]
            return gr.update(choices=[name.strip(), *names[::-1]], value=name.strip())

    def stop(language: Language) -> None:
        with guarded("search", language):
            searches.stop()

    def go_on(name: str | None, trials: float, language: Language) -> None:
        with guarded("search", language):
            folder = house.offering.study(name or "")
            searches.go_on(folder.name, folder, searches.wanted(folder.name) or int(trials))

    fields = controls["fields"]
    only = {"concurrency_limit": 1, "concurrency_id": "searches", **PRIVATE}
    controls["start"].click(start, [*fields, house.language], study, **only)
    controls["stop"].click(stop, house.language, None, **only)
    controls["go_on"].click(go_on, [study, fields[2], house.language], None, **only)
