"""The Mix it yourself tab: releasing a slider merges the model again in memory and answers again.

Knows gradio, the cache and a visitor's recipe; the merge itself is evovlm's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from evovlm_app.answer_board import answer_board, watch
from evovlm_app.asking import Asker, Rows, checked, note
from evovlm_app.cards import cards, seen_rows, solved_rows
from evovlm_app.context import MODELS_QUEUE, PRIVATE, Context
from evovlm_app.error_messages import guarded
from evovlm_app.input_fields import example_texts, pick_picture
from evovlm_app.limits import LONGEST_QUESTION, Refusal, read_question
from evovlm_app.mixboard import Board, build_board
from evovlm_app.mixing import candidate
from evovlm_app.samples import visitor_item
from evovlm_app.shown_recipe import shown_recipe
from evovlm_app.streaming import Reply, answer
from evovlm_app.words import Language


class Mixer:
    """Merges a visitor's recipe in memory, and answers with the merged model."""

    def __init__(self, context: Context, asker: Asker) -> None:
        self._context = context
        self._asker = asker

    def ask(
        self, name: str, parameters: Any, method: str, seed: float, picture: Any, question: str | None
    ) -> Iterator[Rows]:
        """Yield one row as the answer grows; its `merged` is the merge time in seconds.

        Raises Refusal for an unknown recipe, unusable parameters, image or question, and a model beyond the memory
        budget.
        """
        mixable = self._context.offering.mixable(name)
        recipe = candidate(mixable, parameters, method, seed)
        generation = mixable.generation or self._context.offering.tasks[mixable.kind].generation
        sees = mixable.kind == "vlm"
        image, asked = (checked(picture) if sees else None), read_question(question)
        samples = self._asker.scenes if sees else self._asker.problems
        references = samples.references(image, asked)
        offer = mixable.offer(mixable.name, mixable.folder)
        reply = Reply(f"{mixable.name} · {method}", state="loading", merged=True)
        yield solved_rows([reply], None)
        try:
            started = time.perf_counter()
            with self._context.cache.mix(offer, recipe) as engine:
                merged = round(time.perf_counter() - started, 3)
                for _ in answer(engine, generation, visitor_item(asked, image), reply):
                    rows = seen_rows([reply], references) if sees else solved_rows([reply], (*references, None)[0])
                    yield [row | {"merged": merged} for row in rows]
        finally:
            note("mix", [reply])


def build_mix(context: Context, asker: Asker) -> None:
    """Build the tab: its components, their events, and the endpoint /mix."""
    if not context.offering.mixables:
        return
    mixer = Mixer(context, asker)
    context.speak(gr.Markdown(elem_classes="intro"), value="mix_intro")
    with gr.Row(elem_classes="bench", elem_id="mix-bench"):
        with gr.Column(scale=5, elem_id="mix-panel"):
            board = build_board(context)
        with gr.Column(scale=7):
            answers, stop = answer_board(context, "mix")
            fields = _question_fields(context, asker, board)
            saved = context.speak(gr.Code(language="yaml", visible=False, elem_id="mix-yaml"), label="saved")
    asked = [board.recipe, board.parameters, board.method, board.seed, *fields, context.language]

    def show(
        name: str, parameters: Any, method: str, seed: float, image: Any, text: str, puzzle: str, language: Language
    ) -> Iterator[str]:
        with guarded("mix", language):
            sees = context.offering.mixable(name).kind == "vlm"
            for rows in mixer.ask(name, parameters, method, seed, image, text if sees else puzzle):
                yield cards(rows, language)

    quiet = {"show_progress": "minimal", "trigger_mode": "always_last"} | PRIVATE | MODELS_QUEUE
    picture, question, problem = fields
    running = [trigger(show, asked, answers, **quiet) for trigger in (board.ask.click, question.submit, problem.submit)]
    running += [changed.success(show, asked, answers, **quiet) for changed in board.moved]
    watch(context, "mix", [board.ask.click], running, answers, stop)
    _add_saving(context, board, saved)
    _add_api(context, mixer, [board.recipe, board.method, board.seed, picture, question])


def _question_fields(context: Context, asker: Asker, board: Board) -> tuple[Any, Any, Any]:
    """Image and question for a VLM, a problem for a language model; only those of the chosen recipe are visible."""
    kind = context.offering.mixables[0].kind
    with gr.Column(visible=kind == "vlm", elem_id="mix-picture-panel") as seeing:
        picture, question, _ = pick_picture(context, asker, "mix", height=170)
    with gr.Column(visible=kind == "llm", elem_id="mix-problem-panel") as reading:
        texts = asker.problems.questions
        box = gr.Textbox(texts[0] if texts else "", lines=3, max_length=LONGEST_QUESTION, elem_id="mix-problem")
        problem = context.speak(box, label="problem", placeholder="problem_hint")
        if texts:
            example_texts(context, [[text] for text in texts[:4]], [problem], "mix-problem", "example_problems")

    def swap(name: str) -> list[Any]:
        sees = context.offering.mixable(name).kind == "vlm"
        return [gr.update(visible=sees), gr.update(visible=not sees)]

    board.recipe.change(swap, board.recipe, [seeing, reading], queue=False, **PRIVATE)
    return picture, question, problem


def _add_saving(context: Context, board: Board, saved: Any) -> None:
    def save(name: str, parameters: Any, method: str, seed: float, language: Language) -> Any:
        with guarded("save", language):
            recipe = candidate(context.offering.mixable(name), parameters, method, seed)
            return gr.update(value=shown_recipe(recipe), visible=True)

    inputs = [board.recipe, board.parameters, board.method, board.seed, context.language]
    board.save.click(save, inputs, saved, **PRIVATE)


def _add_api(context: Context, mixer: Mixer, shared: list[Any]) -> None:
    """Add the endpoint /mix: takes recipe, parameters, method, seed, image and question; returns the row and recipe."""
    parameters, row = gr.JSON(visible=False, label="parameters"), gr.JSON(visible=False)
    button = gr.Button(visible=False)

    def mix(
        recipe: str, parameters: Any, method: str, seed: float, image: Any, question: str, language: Language
    ) -> dict[str, Any]:
        with guarded("mix", language):
            if not isinstance(parameters, dict):
                raise Refusal("bad_parameters")
            *_, last = mixer.ask(recipe, parameters, method, seed, image, question)
            made = candidate(context.offering.mixable(recipe), parameters, method, seed)
            return last[0] | {"recipe": shown_recipe(made)}

    recipe, method, seed, picture, question = shared
    button.click(
        mix,
        [recipe, parameters, method, seed, picture, question, context.language],
        row,
        api_name="mix",
        api_description="Merge with the given weights and densities, and answer. Parameters: source -> "
        "{weight, density}, each one number or one number per layer group.",
        **MODELS_QUEUE,
    )
