"""The answer board beside a question: the area where answers appear, and its stop button.

Knows gradio and the cards; runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from evovlm_app.cards import HINT, cards, stopped
from evovlm_app.context import PRIVATE, Context
from evovlm_app.words import Language


def answer_board(context: Context, name: str) -> tuple[Any, Any]:
    """Build the answer area and its stop button, and return both. `name`: prefix of the element ids."""
    with gr.Row(elem_classes="board-head"):
        context.speak(gr.Markdown(elem_classes="board-title"), value="answers_title")
        stop = context.speak(gr.Button(size="sm", elem_id=f"{name}-stop", min_width=0), value="stop")
    answers = gr.HTML(cards([], context.speak.language), elem_id=f"{name}-answers", elem_classes="answers-box")

    def respeak(shown: str | None, language: Language) -> Any:
        """Show the hint in the new language; leave answers unchanged."""
        return cards([], language) if HINT in (shown or "") else gr.skip()

    context.speak.also(respeak, [answers, context.language], [answers])
    return answers, stop


def watch(
    context: Context,
    name: str,
    triggers: Sequence[Callable[..., Any]],
    running: list[Any],
    answers: Any,
    stop: Any,
) -> None:
    """On each trigger, scroll the answers into view on a phone; connect the stop button to the `running` events."""
    for trigger in triggers:
        trigger(None, js=f"() => {{ window.evovlm.reveal('{name}-answers'); }}", **PRIVATE)

    def settle(shown: str, language: Language) -> str:
        return stopped(shown, language)

    # Without the queue: the models' queue may be long, and stopping must not wait in it.
    stop.click(None, cancels=running, **PRIVATE).then(
        settle, [answers, context.language], answers, queue=False, show_progress="hidden", **PRIVATE
    )
