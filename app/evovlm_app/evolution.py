"""The Evolution tab: a study read from its log, live while a search runs, with buttons to start, stop and resume.

Knows gradio, searches and studies; runs no search itself.
"""

from __future__ import annotations

import logging
from functools import partial
from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from evovlm.report.data import StudyData, read_study
from evovlm.report.figures import Figure, history_figures, parameter_figures, score_figure
from evovlm.system.errors import UserError
from evovlm_app.context import PRIVATE, Context
from evovlm_app.error_messages import guarded
from evovlm_app.pareto_figure import front_figure
from evovlm_app.plot_translations import in_language
from evovlm_app.searches import MOST_ITEMS, MOST_TRIALS
from evovlm_app.shown_recipe import shown_recipe
from evovlm_app.studyview import changed_answers, held_out_table, stamp, starting_line, state_line
from evovlm_app.theme import JAPANESE
from evovlm_app.words import Language, say

log = logging.getLogger(__name__)
EVERY = 2.0  # seconds between reads of the log
PLOTS = ("scores_plot", "pareto_plot", "weights_plot", "densities_plot", "history_plot")
# Readable in both light and dark mode; transparent, so that the page's background shows.
LAYOUT = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {
        "color": "#85817a",
        "family": f"Source Sans Pro, {', '.join(JAPANESE)}, system-ui, sans-serif",
        "size": 13,
    },
    "autosize": True,
}
# Top margin in pixels: the field's label is above the plot's upper left corner, and a legend is below the label.
TOP = {"heatmap": 62, "scatter": 84}
HEIGHT = 420  # pixels, for plots with a legend, so that plots side by side have the same height
GRID = {"gridcolor": "rgba(128,136,149,0.25)", "zerolinecolor": "rgba(128,136,149,0.4)", "automargin": True}


def build_evolution(context: Context, *, may_search: bool) -> Any:
    """Build the tab. Returns a function that attaches "show the newest study" to an event, such as the page load."""
    speak, names = context.speak, context.offering.study_names()
    speak(gr.Markdown(elem_classes="intro"), value="evolution_intro")
    newest = names[-1] if names else None
    with gr.Row(elem_classes="toolbar", elem_id="evolution-panel"):
        study = speak(
            gr.Dropdown(names[::-1], value=newest, elem_id="evolution-study", scale=4, min_width=180), label="study"
        )
        buttons = _buttons(context) if may_search else []
    controls = _controls(context, open_now=not names) if may_search else None
    state = gr.HTML(elem_id="evolution-state")
    plots = []
    for row in (PLOTS[:2], PLOTS[2:4], PLOTS[4:]):
        with gr.Row(elem_classes="plots"):
            plots += [_plot(context, key) for key in row]
    words = gr.HTML(elem_id="evolution-words", elem_classes="scroll")
    recipe = speak(
        gr.Code(language="yaml", max_lines=20, elem_id="evolution-recipe", visible=False), label="best_recipe"
    )
    seen, known = gr.State(None), gr.State(names)
    shown = [seen, state, *plots, words, recipe, *buttons]

    def look(name: str | None, before: Any, language: Language) -> list[Any]:
        updates = _look(context, name, before, language)
        return updates + [gr.skip()] * (len(shown) - len(updates))

    inputs = [study, seen, context.language]
    quiet = {"queue": False, "show_progress": "hidden", **PRIVATE}
    timer = gr.Timer(EVERY)
    timer.tick(look, inputs, shown, **quiet)
    study.change(look, inputs, shown, **quiet)
    listing = partial(_list, context)
    timer.tick(listing, [study, known], [study, known], **quiet)
    if controls is not None:
        _connect(context, controls, buttons, study)
    return lambda event: event(listing, [study, known], [study, known], **quiet).then(look, inputs, shown, **quiet)


def _plot(context: Context, key: str) -> Any:
    return context.speak(gr.Plot(elem_id=f"evolution-{key.replace('_', '-')}", min_width=300, visible=False), label=key)


def _list(context: Context, chosen: str | None, known: list[str]) -> list[Any]:
    """Updates of the study list if studies were added or removed; selects the newest if none was selected."""
    names = context.offering.study_names()
    if names == known and (chosen or not names):
        return [gr.skip(), gr.skip()]
    choices = names[::-1]
    if chosen and chosen not in names:
        choices.insert(0, chosen)  # a search that has just started has no log yet
    return [gr.update(choices=choices, value=chosen or (choices[0] if choices else None)), names]


def _look(context: Context, name: str | None, before: Any, language: Language) -> list[Any]:
    """Updates that show a study; all are skipped if its log has not changed."""
    skipped = [gr.skip() for _ in range(4 + len(PLOTS))]
    running = context.searches.running
    able = [gr.update(interactive=running is not None), gr.update(interactive=running is None and bool(name))]
    if not name:
        empty = f'<p class="state" data-state="none">{escape(say("no_study", language))}</p>'
        return [None, empty, *skipped[2:], *able]
    with guarded("evolution", language):
        if name not in context.offering.study_names():
            # A search that has just started has no log yet.
            starting = starting_line(name, context.searches, language)
            return [None, starting, *skipped[2:], *able] if starting else skipped
        folder = context.offering.study(name)
        now = (*stamp(folder, context.searches), language)
        if before is not None and tuple(before) == now:
            return skipped
        try:
            study = read_study(folder)
        except UserError as error:
            log.warning("unreadable study", extra={"facts": {"study": name, "error": str(error)}})
            words = escape(say("study_unreadable", language))
            unreadable = f'<p class="state failed" data-state="unreadable">{words}</p>'
            return [now, unreadable, *skipped[2:], *able]
        figures = [figure and in_language(figure, study, language) for figure in _figures(study)]
        alts = "".join(f'<p class="sr-only">{escape(figure.alt)}</p>' for figure in figures if figure is not None)
        words = held_out_table(study, language) + changed_answers(study, language) + alts
        recipe = gr.update(value=shown_recipe(study.winner) if study.winner else "", visible=study.winner is not None)
        return [now, state_line(study, context.searches, language), *map(_drawn, figures), words, recipe, *able]


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
    top = TOP[figure.data[0]["type"]]
    height = HEIGHT if "legend" in figure.layout else figure.layout["height"] + top - 40
    layout = LAYOUT | figure.layout | {"height": height, "margin": {"l": 64, "r": 16, "t": top, "b": 48}}
    for axis in ("xaxis", "yaxis"):
        layout[axis] = GRID | figure.layout.get(axis, {})
    return gr.update(value=go.Figure({"data": figure.data, "layout": layout}), visible=True)


def _buttons(context: Context) -> list[Any]:
    """The Stop and Resume buttons; `_look` enables each only while it applies."""
    return [
        context.speak(
            gr.Button(size="sm", elem_id=f"evolution-{name}", scale=1, min_width=90, interactive=False), value=key
        )
        for name, key in (("stop", "stop_search"), ("go-on", "go_on"))
    ]


def _controls(context: Context, *, open_now: bool) -> dict[str, Any]:
    """The fields of a new search and its start button."""
    speak, mixables = context.speak, [mixable for mixable in context.offering.mixables if mixable.recipe.search]
    names = [mixable.name for mixable in mixables]
    with speak(gr.Accordion(open=open_now, elem_id="evolution-controls"), label="start"):
        with gr.Row(elem_classes="tight"):
            recipe = speak(
                gr.Dropdown(names, value=names[0] if names else None, min_width=140, scale=2), label="recipe"
            )
            name = gr.Textbox("my-search", max_length=40, elem_id="evolution-name", min_width=140, scale=2)
            speak(name, label="name", placeholder="name_hint")
            seed = speak(gr.Number(0, precision=0, minimum=0, min_width=80, scale=1), label="seed")
        with gr.Row(elem_classes="tight"):
            trials = gr.Slider(1, MOST_TRIALS, value=40, step=1, elem_id="evolution-trials", min_width=140, buttons=[])
            items = gr.Slider(4, MOST_ITEMS, value=64, step=1, elem_id="evolution-items", min_width=140, buttons=[])
            speak(trials, label="trials")
            speak(items, label="items")
        start = speak(gr.Button(variant="primary", elem_id="evolution-start"), value="run_search")
    return {"fields": [recipe, name, trials, items, seed], "start": start}


def _connect(context: Context, controls: dict[str, Any], buttons: list[Any], study: Any) -> None:
    searches = context.searches

    def start(recipe: str, name: str, trials: float, items: float, seed: float, language: Language) -> Any:
        with guarded("search", language):
            searches.start(
                name.strip(), context.offering.mixable(recipe or ""), int(trials), int(items), int(seed or 0)
            )
            names = [known for known in context.offering.study_names() if known != name.strip()]
            return gr.update(choices=[name.strip(), *names[::-1]], value=name.strip())

    def stop(language: Language) -> None:
        with guarded("search", language):
            searches.stop()

    def go_on(name: str | None, trials: float, language: Language) -> None:
        with guarded("search", language):
            folder = context.offering.study(name or "")
            searches.go_on(folder.name, folder, searches.wanted(folder.name) or int(trials))

    fields = controls["fields"]
    only = {"concurrency_limit": 1, "concurrency_id": "searches", **PRIVATE}
    controls["start"].click(start, [*fields, context.language], study, **only)
    buttons[0].click(stop, context.language, None, **only)
    buttons[1].click(go_on, [study, fields[2], context.language], None, **only)
