"""The mixing board: recipe, method, seed, layer group, and two sliders a source, kept in step with the parameters.

Knows gradio and a visitor's recipe; merges and asks nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app.guard import guarded
from app.house import PRIVATE, House
from app.limits import Refusal
from app.mixing import ALL, HIGHEST_WEIGHT, MOST_SEED, methods_for, parameters_of, shown_value, with_value
from app.offers import Kitchen
from app.words import Language, say
from evovlm.recipe import Recipe

NAMES = ("weight", "density")


@dataclass(frozen=True)
class Board:
    """The board's components; `moved` and `chosen` are the events after which the recipe differs."""

    recipe: Any
    method: Any
    seed: Any
    parameters: Any
    save: Any
    moved: list[Any]  # the model is to be merged anew


def build_board(house: House) -> tuple[Board, Any]:
    """Lay out the board for the first recipe, with its button that asks."""
    speak, kitchens = house.speak, house.offering.kitchens
    first = kitchens[0]
    slots = max(len(kitchen.recipe.sources) for kitchen in kitchens)
    start = parameters_of(first.recipe, first.groups)
    parameters = gr.State(start)
    with gr.Row(elem_classes="tight"):
        names = [kitchen.name for kitchen in kitchens]
        recipe = speak(
            gr.Dropdown(names, value=first.name, elem_id="mix-recipe", min_width=110, scale=3), label="recipe"
        )
        method = gr.Dropdown(
            methods_for(first), value=first.recipe.method, elem_id="mix-method", min_width=110, scale=3
        )
        speak(method, label="method")
        seed = gr.Number(first.recipe.seed, precision=0, minimum=0, maximum=MOST_SEED, min_width=64, scale=1)
        speak(seed, label="seed")
    group = speak(gr.Dropdown(_groups(first, speak.language), value=ALL, elem_id="mix-group"), label="group")
    sliders = []
    for slot in range(slots):
        with gr.Row(elem_classes="tight source"):
            sliders += [_slider(house, first, slot, name) for name in NAMES]
    ask = speak(gr.Button(variant="primary", elem_id="mix-ask"), value="mix_ask")
    with gr.Row(elem_classes="tight"):
        evolved = speak(gr.Button(size="sm", elem_id="mix-evolved", min_width=80), value="use_evolved")
        reset = speak(gr.Button(size="sm", elem_id="mix-reset", min_width=60), value="reset")
        save = speak(gr.Button(size="sm", elem_id="mix-save", min_width=80), value="save_recipe")
    values = gr.HTML(values_table(start, speak.language), elem_id="mix-values", elem_classes="scroll")

    laid = [parameters, method, seed, group, *sliders]
    lay = _layer(house, slots)

    def lay_plain(name: str, language: Language) -> list[Any]:
        with guarded("mix", language):
            kitchen = house.offering.kitchen(name)
            return lay(kitchen, kitchen.recipe, language)

    def lay_evolved(name: str, language: Language) -> list[Any]:
        with guarded("mix", language):
            kitchen = house.offering.kitchen(name)
            winner = house.offering.evolved(kitchen)
            if winner is None:
                raise Refusal("no_evolved")
            return lay(kitchen, winner, language)

    named = {"queue": False, **PRIVATE}
    told = dict(PRIVATE)  # a refusal's sentence reaches the page through the queue alone
    chosen = [recipe.change(lay_plain, [recipe, house.language], laid, **named)]
    moved = [
        evolved.click(lay_evolved, [recipe, house.language], laid, **told),
        reset.click(lay_plain, [recipe, house.language], laid, **named),
        method.input(lambda: None, None, None, **named),
        seed.input(lambda: None, None, None, **named),
    ]
    group.input(
        lambda name, values, where: _positions(house.offering.kitchen(name), values, where, slots),
        [recipe, parameters, group],
        sliders,
        **named,
    )

    def relabel(name: str, values: Any, where: str, language: Language) -> list[Any]:
        kitchen = house.offering.kitchen(name)
        named_groups = gr.update(choices=_groups(kitchen, language), value=where)
        return [named_groups, *_positions(kitchen, values, where, slots, language)]

    speak.also(relabel, [recipe, parameters, group, house.language], [group, *sliders])
    for index, slider in enumerate(sliders):
        move = _mover(house, index // 2, NAMES[index % 2])
        moved.append(slider.release(move, [recipe, parameters, group, slider], parameters, **named))
    # The table follows at once, whether or not the answer has to wait.
    speak.also(values_table, [parameters, house.language], [values])
    for changed in (*chosen, *moved):
        changed.success(values_table, [parameters, house.language], values, show_progress="hidden", **named)
    return Board(recipe, method, seed, parameters, save, moved), ask


def values_table(parameters: Any, language: Language) -> str:
    """All weights and densities as a small table, a weight's cell the fuller the higher it is."""
    groups = list(next(iter(parameters.values()))["weight"])
    head = "".join(f"<th scope=col>{escape(source)}</th>" for source in parameters)
    rows = ""
    for group in groups:
        cells = "".join(_cell(own["weight"][group], own["density"][group]) for own in parameters.values())
        rows += f"<tr><th scope=row>{escape(group)}</th>{cells}</tr>"
    title = escape(say("values", language))
    return f'<table class="values"><caption>{title}</caption><tr><td></td>{head}</tr>{rows}</table>'


def _cell(weight: float, density: float) -> str:
    share = 40 * min(1.0, abs(weight) / HIGHEST_WEIGHT)  # of the accent: the number stays legible on it
    return f'<td style="--share:{share:.0f}%">{weight:.2f} <small>× {density:.2f}</small></td>'


def _slider(house: House, kitchen: Kitchen, slot: int, name: str) -> Any:
    used = slot < len(kitchen.recipe.sources)
    source = kitchen.recipe.source_names[slot] if used else ""
    value = shown_value(parameters_of(kitchen.recipe, kitchen.groups), source, name, ALL) if used else 1.0
    return gr.Slider(
        0.0,
        HIGHEST_WEIGHT if name == "weight" else 1.0,
        value=value,
        step=0.01,
        label=say(f"{name}_of", house.speak.language, name=source),
        visible=used,
        elem_id=f"mix-{name}-{slot}",
        buttons=[],
        min_width=130,
    )


def _mover(house: House, slot: int, name: str) -> Callable[..., Any]:
    def move(recipe: str, parameters: Any, group: str, value: float) -> Any:
        source = house.offering.kitchen(recipe).recipe.source_names[slot]
        return with_value(parameters, source, name, group, value)

    return move


def _layer(house: House, slots: int) -> Callable[[Kitchen, Recipe, Language], list[Any]]:
    """Puts a recipe on the board: parameters, method, seed, groups, and every slider."""

    def lay(kitchen: Kitchen, recipe: Recipe, language: Language) -> list[Any]:
        values = parameters_of(recipe, kitchen.groups)
        return [
            values,
            gr.update(choices=methods_for(kitchen), value=recipe.method),
            recipe.seed,
            gr.update(choices=_groups(kitchen, language), value=ALL),
            *_positions(kitchen, values, ALL, slots, language),
        ]

    return lay


def _positions(
    kitchen: Kitchen, parameters: Any, group: str, slots: int, language: Language | None = None
) -> list[Any]:
    """Where every slider stands, and what it is called where a language is given."""
    updates = []
    for slot in range(slots):
        for name in NAMES:
            if slot >= len(kitchen.recipe.sources):
                updates.append(gr.update(visible=False))
                continue
            source = kitchen.recipe.source_names[slot]
            more = {} if language is None else {"label": say(f"{name}_of", language, name=source), "visible": True}
            updates.append(gr.update(value=shown_value(parameters, source, name, group), **more))
    return updates


def _groups(kitchen: Kitchen, language: Language) -> list[tuple[str, str]]:
    return [(say("all_groups", language), ALL), *((group, group) for group in kitchen.groups)]
