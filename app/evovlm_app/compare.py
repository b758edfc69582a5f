"""The Compare tab: an image, a question in Japanese, and each model's answer, streamed token by token.

Knows gradio and the asker; loads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from evovlm_app.answer_board import answer_board, watch
from evovlm_app.asking import Asker, Rows
from evovlm_app.cards import cards
from evovlm_app.context import MODELS_QUEUE, PRIVATE, Context
from evovlm_app.error_messages import guarded
from evovlm_app.input_fields import pick_picture
from evovlm_app.words import Language


def build_compare(context: Context, asker: Asker) -> None:
    """Build the tab: its components, their events, and the endpoint /compare."""
    speak = context.speak
    names = list(context.offering.models("vlm"))
    speak(gr.Markdown(elem_classes="intro"), value="compare_intro")
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, elem_id="compare-panel"):
            picture, question, ask = pick_picture(context, asker, "compare", height=190, button="ask")
            models = speak(
                gr.CheckboxGroup(names, value=default_models(context), elem_id="compare-models"), label="models"
            )
        with gr.Column(scale=7):
            answers, stop = answer_board(context, "compare")

    def show(image: Any, text: str, chosen: list[str], language: Language) -> Iterator[str]:
        with guarded("compare", language):
            for rows in asker.see(image, text, chosen):
                yield cards(rows, language)

    inputs = [picture, question, models, context.language]
    quiet = {"show_progress": "minimal"} | PRIVATE | MODELS_QUEUE
    running = [trigger(show, inputs, answers, **quiet) for trigger in (ask.click, question.submit)]
    watch(context, "compare", [ask.click, question.submit], running, answers, stop)
    _add_api(asker, picture, question, models, context)


def default_models(context: Context) -> list[str]:
    """The models selected at first: the first sources and the last merge or evolved model, three at most."""
    names = list(context.offering.models("vlm"))
    merges = [name for name in names if name.startswith(("merged", "evolved"))]
    plain = [name for name in names if name not in merges]
    return [*plain[: max(1, 3 - len(merges[-1:]))], *merges[-1:]]


def _add_api(asker: Asker, picture: Any, question: Any, models: Any, context: Context) -> None:
    """Add the endpoint /compare: takes image, question and model names; returns the finished rows."""
    rows = gr.JSON(visible=False)
    button = gr.Button(visible=False)

    def compare(image: Any, question: str, models: list[str], language: Language) -> Rows:
        with guarded("compare", language):
            *_, last = asker.see(image, question, models)
            return last

    button.click(
        compare,
        [picture, question, models, context.language],
        rows,
        api_name="compare",
        api_description="Ask each chosen model a question about an image.",
        **MODELS_QUEUE,
    )
