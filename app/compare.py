"""The tab Compare: a picture, a question in Japanese, and what each model answers, token by token.

Knows gradio and the asker; loads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.asking import Asker, Rows
from app.board import answer_board, watch
from app.cards import cards
from app.guard import guarded
from app.house import MODELS_QUEUE, PRIVATE, House
from app.picking import pick_picture
from app.words import Language


def build_compare(house: House, asker: Asker) -> None:
    """The tab's components and what they do."""
    speak = house.speak
    names = list(house.offering.models("vlm"))
    speak(gr.Markdown(elem_classes="intro"), value="compare_intro")
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, elem_id="compare-panel"):
            picture, question, ask = pick_picture(house, asker, "compare", height=190, button="ask")
            models = speak(
                gr.CheckboxGroup(names, value=default_models(house), elem_id="compare-models"), label="models"
            )
        with gr.Column(scale=7):
            answers, stop = answer_board(house, "compare")

    def show(image: Any, text: str, chosen: list[str], language: Language) -> Iterator[str]:
        with guarded("compare", language):
            for rows in asker.see(image, text, chosen):
                yield cards(rows, language)

    inputs = [picture, question, models, house.language]
    quiet = {"show_progress": "minimal"} | PRIVATE | MODELS_QUEUE
    running = [trigger(show, inputs, answers, **quiet) for trigger in (ask.click, question.submit)]
    watch(house, "compare", [ask.click, question.submit], running, answers, stop)
    _add_api(asker, picture, question, models, house)


def default_models(house: House) -> list[str]:
    """What is chosen at first: every model of the first recipe and its merges, three at most."""
    names = list(house.offering.models("vlm"))
    merges = [name for name in names if name.startswith(("merged", "evolved"))]
    plain = [name for name in names if name not in merges]
    return [*plain[: max(1, 3 - len(merges[-1:]))], *merges[-1:]]


def _add_api(asker: Asker, picture: Any, question: Any, models: Any, house: House) -> None:
    """The endpoint /compare: picture, question and model names in; a list of rows out, the last one whole."""
    rows = gr.JSON(visible=False)
    button = gr.Button(visible=False)

    def compare(image: Any, question: str, models: list[str], language: Language) -> Rows:
        with guarded("compare", language):
            *_, last = asker.see(image, question, models)
            return last

    button.click(
        compare,
        [picture, question, models, house.language],
        rows,
        api_name="compare",
        api_description="What each chosen model answers to a question about a picture.",
        **MODELS_QUEUE,
    )
