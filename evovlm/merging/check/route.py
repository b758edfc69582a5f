"""Checks a route against its models: the layers exist, and settings that a model has only once do not differ.

Knows layer counts, tensor shapes and configurations. Every finding names the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evovlm.merging.check._finding import Finding
from evovlm.merging.check.configuration import ALIKE, BENDING, FUNCTION, SHAPING, complete_config
from evovlm.models.open_model import OpenModel
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe

# The reason given for settings whose name alone does not explain why they cannot differ within one model.
HELD_ONCE = "a model has one value for all its layers"


def check_route(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> Iterator[Finding]:
    """Check a recipe's route, or the layers among which routes are to be searched; yields findings."""
    space = recipe.search.route if recipe.search is not None else None
    if not recipe.route and space is None:
        return
    if recipe.slices:
        yield Finding("error", "slices", "a route already gives the layers and their order; remove `slices`")
    if recipe.method != "passthrough":
        text = f"a route uses unmerged layers, but {recipe.method} merges them; set `method: passthrough`"
        yield Finding("error", "route", text + ", or put the search in data-flow space under `then`")
    if owner.label not in sources:
        text = f"embeddings, final norm and head must come from a source; choose from {list(sources)}"
        yield Finding("error", "owner", text)
    depths = {name: depth_of(model) for name, model in sources.items()}
    for index, step in enumerate(recipe.route):
        if step.layer >= depths[step.source]:
            text = f"step {index}: no layer {step.layer} in {step.source}, which has 0 to {depths[step.source] - 1}"
            yield Finding("error", f"route.{index}", text)
    if space is not None and space.prefix is not None:
        yield from _prefix(space.prefix.source, space.prefix.layers, depths)
    for name, model in sources.items():
        used = next((index for index, step in enumerate(recipe.route) if step.source == name), None)
        if model is owner or (used is None and space is None):
            continue
        place = "route" if used is None else f"route.{used}"
        begin = "" if used is None else f"step {used}: "
        for text in _misfits(model, owner):
            yield Finding("error", place, begin + text)


def depth_of(model: OpenModel) -> int:
    """Return the number of layers in a model's language tower."""
    return 1 + max((layer for name in model.tower if (layer := layer_of(name)) is not None), default=-1)


def _prefix(source: str, layers: int, depths: Mapping[str, int]) -> Iterator[Finding]:
    if source not in depths:
        text = f"unknown source {source!r}; choose from {list(depths)}"
        yield Finding("error", "search.route.prefix.source", text)
    elif layers > depths[source]:
        text = f"{layers} layers of {source}, which has {depths[source]}"
        yield Finding("error", "search.route.prefix.layers", text)


def _misfits(model: OpenModel, owner: OpenModel) -> Iterator[str]:
    """Reasons why a model's layers cannot be combined with the owner's in one model."""
    mine, theirs = complete_config(model.text_config), complete_config(owner.text_config)
    for name in SHAPING:
        if mine.get(name) != theirs.get(name):
            yield (
                f"{name} is {mine.get(name)} in {model.label} and {theirs.get(name)} in {owner.label}:"
                " their layers cannot share a residual stream; choose another source"
            )
    for name in (*BENDING, *FUNCTION, "model_type"):
        both = {mine.get(name), theirs.get(name)} if name == "model_type" else set()
        if mine.get(name) != theirs.get(name) and not any(both and both <= family for family in ALIKE):
            yield (
                f"{name} is {mine.get(name)} in {model.label} and {theirs.get(name)} in {owner.label}, and"
                f" {HELD_ONCE}; choose sources that agree"
            )
