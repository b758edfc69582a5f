"""The mixing board: recipe, method, seed, layer group, and two sliders per source, in sync with the parameters.

Knows gradio and a visitor's recipe; merges nothing and runs no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from evovlm.recipe.layer_groups import group_in_words
from evovlm.recipe.schema import Recipe
from evovlm_app.catalogue import MixableRecipe
from evovlm_app.context import PRIVATE, Context
from evovlm_app.error_messages import guarded
from evovlm_app.limits import Refusal
from evovlm_app.mixing import ALL, HIGHEST_WEIGHT, MOST_SEED, methods_for, parameters_of, shown_value, with_value
from evovlm_app.words import Language, say

NAMES = ("weight", "density")
NAMED: dict[str, Any] = {"queue": False, **PRIVATE}


@dataclass
class Board:
    """The board's components; `moved`: the events after which the model must be merged again."""

    recipe: Any
    method: Any
    seed: Any
    parameters: Any
    group: Any
    sliders: list[Any]
    ask: Any
    evolved: Any
    reset: Any
    save: Any
    values: Any
    moved: list[Any] = field(default_factory=list)

    @property
    def slots(self) -> int:
        """The number of sources with sliders."""
        return len(self.sliders) // len(NAMES)


def build_board(context: Context) -> Board:
    """Build the board for the first recipe, and connect its components to each other."""
    board = _parts(context)
    _connect_laying(context, board)
    _connect_moving(context, board)
    return board


def _parts(context: Context) -> Board:
    speak, mixables = context.speak, context.offering.mixables
    first = mixables[0]
    start = parameters_of(first.recipe, first.groups)
    parameters = gr.State(start)
    with gr.Row(elem_classes="tight"):
        names = [mixable.name for mixable in mixables]
        recipe = gr.Dropdown(names, value=first.name, elem_id="mix-recipe", min_width=110, scale=3)
        method = gr.Dropdown(
            methods_for(first), value=first.recipe.method, elem_id="mix-method", min_width=110, scale=3
        )
        seed = gr.Number(first.recipe.seed, precision=0, minimum=0, maximum=MOST_SEED, min_width=64, scale=1)
    for part, key in ((recipe, "recipe"), (method, "method"), (seed, "seed")):
        speak(part, label=key)
    group = speak(gr.Dropdown(_groups(first, speak.language), value=ALL, elem_id="mix-group"), label="group")
    sliders = []
    for slot in range(max(len(mixable.recipe.sources) for mixable in mixables)):
        with gr.Row(elem_classes="tight source"):
            sliders += [_slider(context, first, slot, name) for name in NAMES]
    ask = speak(gr.Button(variant="primary", elem_id="mix-ask"), value="mix_ask")
    with gr.Row(elem_classes="tight"):
        evolved = speak(gr.Button(size="sm", elem_id="mix-evolved", min_width=80), value="use_evolved")
        reset = speak(gr.Button(size="sm", elem_id="mix-reset", min_width=60), value="reset")
        save = speak(gr.Button(size="sm", elem_id="mix-save", min_width=80), value="save_recipe")
    values = gr.HTML(values_table(start, speak.language), elem_id="mix-values", elem_classes="scroll")
    return Board(recipe, method, seed, parameters, group, sliders, ask, evolved, reset, save, values)


def _connect_laying(context: Context, board: Board) -> None:
    """Connect what loads a recipe onto the board: choosing another, the evolved one, or a reset."""
    lay = _layer(context, board.slots)

    def lay_plain(name: str, language: Language) -> list[Any]:
        with guarded("mix", language):
            mixable = context.offering.mixable(name)
            return lay(mixable, mixable.recipe, language)

    def lay_evolved(name: str, language: Language) -> list[Any]:
        with guarded("mix", language):
            mixable = context.offering.mixable(name)
            winner = context.offering.evolved(mixable)
            if winner is None:
                raise Refusal("no_evolved")
            return lay(mixable, winner, language)

    inputs = [board.recipe, context.language]
    laid = [board.parameters, board.method, board.seed, board.group, *board.sliders]
    chosen = board.recipe.change(lay_plain, inputs, laid, **NAMED)
    chosen.success(values_table, [board.parameters, context.language], board.values, show_progress="hidden", **NAMED)
    board.moved += [
        board.evolved.click(lay_evolved, inputs, laid, **PRIVATE),  # only queued events can show a refusal
        board.reset.click(lay_plain, inputs, laid, **NAMED),
    ]


def _connect_moving(context: Context, board: Board) -> None:
    """Connect changes of a slider, method or seed, and of the group or language that the sliders show."""

    def place(name: str, values: Any, where: str) -> list[Any]:
        return _positions(context.offering.mixable(name), values, where, board.slots)

    def relabel(name: str, values: Any, where: str, language: Language) -> list[Any]:
        mixable = context.offering.mixable(name)
        named_groups = gr.update(choices=_groups(mixable, language), value=where)
        return [named_groups, *_positions(mixable, values, where, board.slots, language)]

    where = [board.recipe, board.parameters, board.group]
    board.group.input(place, where, board.sliders, **NAMED)
    context.speak.also(relabel, [*where, context.language], [board.group, *board.sliders])
    board.moved += [part.input(lambda: None, None, None, **NAMED) for part in (board.method, board.seed)]
    for index, slider in enumerate(board.sliders):
        move = _mover(context, index // len(NAMES), NAMES[index % len(NAMES)])
        board.moved.append(slider.release(move, [*where, slider], board.parameters, **NAMED))
    # The table updates at once, even if the answer has to wait in the queue.
    told = [board.parameters, context.language]
    context.speak.also(values_table, told, [board.values])
    for changed in board.moved:
        changed.success(values_table, told, board.values, show_progress="hidden", **NAMED)


def values_table(parameters: Any, language: Language) -> str:
    """All weights and densities as an HTML table; a higher weight shades its cell more."""
    groups = list(next(iter(parameters.values()))["weight"])
    head = "".join(f"<th scope=col>{escape(source)}</th>" for source in parameters)
    rows = ""
    for group in groups:
        cells = "".join(_cell(own["weight"][group], own["density"][group]) for own in parameters.values())
        rows += f"<tr><th scope=row>{escape(group_in_words(group))}</th>{cells}</tr>"
    title = escape(say("values", language))
    return f'<table class="values"><caption>{title}</caption><tr><td></td>{head}</tr>{rows}</table>'


def _cell(weight: float, density: float) -> str:
    share = 40 * min(1.0, abs(weight) / HIGHEST_WEIGHT)  # % of the accent colour; the number stays readable
    return f'<td style="--share:{share:.0f}%">{weight:.2f} <small>× {density:.2f}</small></td>'


def _slider(context: Context, mixable: MixableRecipe, slot: int, name: str) -> Any:
    used = slot < len(mixable.recipe.sources)
    source = mixable.recipe.source_names[slot] if used else ""
    value = shown_value(parameters_of(mixable.recipe, mixable.groups), source, name, ALL) if used else 1.0
    return gr.Slider(
        0.0,
        HIGHEST_WEIGHT if name == "weight" else 1.0,
        value=value,
        step=0.01,
        label=say(f"{name}_of", context.speak.language, name=source),
        visible=used,
        elem_id=f"mix-{name}-{slot}",
        buttons=[],
        min_width=130,
    )


def _mover(context: Context, slot: int, name: str) -> Callable[..., Any]:
    def move(recipe: str, parameters: Any, group: str, value: float) -> Any:
        source = context.offering.mixable(recipe).recipe.source_names[slot]
        return with_value(parameters, source, name, group, value)

    return move


def _layer(context: Context, slots: int) -> Callable[[MixableRecipe, Recipe, Language], list[Any]]:
    """Return a function that loads a recipe onto the board: parameters, method, seed, groups, and every slider."""

    def lay(mixable: MixableRecipe, recipe: Recipe, language: Language) -> list[Any]:
        values = parameters_of(recipe, mixable.groups)
        return [
            values,
            gr.update(choices=methods_for(mixable), value=recipe.method),
            recipe.seed,
            gr.update(choices=_groups(mixable, language), value=ALL),
            *_positions(mixable, values, ALL, slots, language),
        ]

    return lay


def _positions(
    mixable: MixableRecipe, parameters: Any, group: str, slots: int, language: Language | None = None
) -> list[Any]:
    """Updates of every slider: its value and, if a language is given, its label."""
    updates = []
    for slot in range(slots):
        for name in NAMES:
            if slot >= len(mixable.recipe.sources):
                updates.append(gr.update(visible=False))
                continue
            source = mixable.recipe.source_names[slot]
            more = {} if language is None else {"label": say(f"{name}_of", language, name=source), "visible": True}
            updates.append(gr.update(value=shown_value(parameters, source, name, group), **more))
    return updates


def _groups(mixable: MixableRecipe, language: Language) -> list[tuple[str, str]]:
    return [(say("all_groups", language), ALL), *((group_in_words(group), group) for group in mixable.groups)]
