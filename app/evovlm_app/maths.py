"""The Maths tab: a word problem, each language model's answer, and whether its number is right.

Knows gradio and the asker; loads nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from evovlm.zoo.problems import sample_problems
from evovlm_app.answer_board import answer_board, watch
from evovlm_app.asking import Asker, Rows
from evovlm_app.cards import cards
from evovlm_app.context import MODELS_QUEUE, PRIVATE, Context
from evovlm_app.error_messages import guarded
from evovlm_app.input_fields import example_texts
from evovlm_app.limits import LONGEST_QUESTION
from evovlm_app.words import Language

ENGLISH_SHOWN = 4


def build_maths(context: Context, asker: Asker) -> None:
    """Build the tab: its components, their events, and the endpoint /maths."""
    speak = context.speak
    names = list(context.offering.models("llm"))
    samples = sample_table(context, asker)
    speak(gr.Markdown(elem_classes="intro"), value="maths_intro")
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=5, elem_id="maths-panel"):
            problem = speak(
                gr.Textbox(
                    samples[0][0] if samples else "", lines=3, max_length=LONGEST_QUESTION, elem_id="maths-problem"
                ),
                label="problem",
                placeholder="problem_hint",
            )
            with gr.Row(elem_classes="asking"):
                number = gr.Textbox(
                    samples[0][1] if samples else "", max_length=40, elem_id="maths-expected", scale=3, min_width=120
                )
                expected = speak(number, label="expected")
                ask = speak(gr.Button(variant="primary", elem_id="maths-ask", scale=2, min_width=84), value="solve")
            if samples:
                example_texts(context, samples, [problem, expected], "maths", "example_problems")
            models = speak(gr.CheckboxGroup(names, value=names, elem_id="maths-models"), label="models")
        with gr.Column(scale=7):
            answers, stop = answer_board(context, "maths")

    def show(text: str, chosen: list[str], right: str, language: Language) -> Iterator[str]:
        with guarded("maths", language):
            for rows in asker.solve(text, chosen, right):
                yield cards(rows, language)

    running = ask.click(
        show,
        [problem, models, expected, context.language],
        answers,
        show_progress="minimal",
        **PRIVATE,
        **MODELS_QUEUE,
    )
    watch(context, "maths", [ask.click], [running], answers, stop)
    _add_api(asker, problem, models, expected, context)


def sample_table(context: Context, asker: Asker) -> list[list[str]]:
    """Rows of problem and correct number: the task's own, in Japanese; for the zoo also English ones."""
    rows = [[item.question, item.references[0]] for item in asker.problems.items[:ENGLISH_SHOWN]]
    if context.offering.tasks["llm"].name == "zoo-maths":
        rows += [[found.question, found.answer] for found in sample_problems("test", ENGLISH_SHOWN, 1, "en")]
    return rows


def _add_api(asker: Asker, problem: Any, models: Any, expected: Any, context: Context) -> None:
    """Add the endpoint /maths: takes problem, model names and the correct number (or ""); returns the finished rows."""
    rows = gr.JSON(visible=False)
    button = gr.Button(visible=False)

    def maths(problem: str, models: list[str], expected: str, language: Language) -> Rows:
        with guarded("maths", language):
            *_, last = asker.solve(problem, models, expected)
            return last

    button.click(
        maths,
        [problem, models, expected, context.language],
        rows,
        api_name="maths",
        api_description="Ask each chosen model a word problem, and check its number.",
        **MODELS_QUEUE,
    )
