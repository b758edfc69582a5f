"""Stacks of layers, by slices or a route: whether transformers reads their configuration as it is written.

Knows configurations; no tensors. Some classes change what they read: Gemma 4's last layer sees every token whatever
config.json says, so a stack that ends in a layer with a sliding window would be loaded as another model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evovlm.merging.check._finding import Finding
from evovlm.merging.check.configuration import KINDS_OF_ATTENTION, layer_kinds
from evovlm.merging.check.route import depth_of
from evovlm.models.configuration import CONFIG
from evovlm.models.families import family_of
from evovlm.models.library_faults import explained
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CheckpointError

Stack = Sequence[tuple[str, int]]  # (source, its layer) of each layer of the output
DEPTH, WINDOWED = "num_hidden_layers", "max_window_layers"


def stack_of(recipe: Recipe) -> Stack:
    """The layers of a recipe's route or slices; empty if the layers are the owner's own."""
    if recipe.route:
        return [(step.source, step.layer) for step in recipe.route]
    return [(part.source, layer) for part in recipe.slices for layer in range(*part.layers)]


def stacked_kinds(stack: Stack, owner: OpenModel, sources: Mapping[str, OpenModel]) -> list[str] | None:
    """The kind of attention (full or sliding) of each layer of a stack, as in the layer's source.

    None if the stack is empty, or if the architecture has only one kind.
    """
    if not stack or layer_kinds(owner) is None:
        return None
    of = {source: layer_kinds(sources[source]) or () for source, _ in stack}
    return [of[source][layer] for source, layer in stack]


def write_stack(text: dict[str, Any], layers: int, kinds: Sequence[str] | None) -> None:
    """Make a language model's part of config.json say how many layers a stack has, and their kinds."""
    if kinds is not None:
        text[KINDS_OF_ATTENTION] = list(kinds)
        if WINDOWED in text:
            text[WINDOWED] = layers  # older readers do not know `layer_types`
    text[DEPTH] = layers


def check_stack(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> Iterator[Finding]:
    """Check that a stack, or any that a search may propose, is loaded as the model that it is; yields findings."""
    searched = recipe.search is not None and recipe.search.route is not None
    place = "slices" if recipe.slices else "search.route" if searched and not recipe.route else "route"
    family = family_of(owner.config)
    if family.unasked:
        text = (
            f"{owner.label} is a {family.name}: {family.unasked}, so that what a stack of its layers computes is not"
            " known to be right; merge weights instead"
        )
        yield Finding("error", place, text)
        return
    stack = stack_of(recipe)
    if any(source not in sources or layer >= _depth(sources[source]) for source, layer in stack):
        return  # reported elsewhere
    kinds = stacked_kinds(stack, owner, sources)
    tried = [(len(stack), kinds)] if stack else []
    if searched and not stack:  # a route may end with any layer
        tried = [(2, [kind, kind]) for kind in dict.fromkeys(layer_kinds(owner) or ())]
    for layers, meant in tried:
        for name, written, read in _misread(owner.config, layers, meant):
            text = (
                f"a model of the kind {owner.text_config.get('model_type')} with `{name}` {written} would be loaded as"
                f" one with {read}, which computes something else; choose other layers, or merge weights instead"
            )
            yield Finding("error", place, text)


def _misread(config: Mapping[str, Any], layers: int, kinds: Sequence[str] | None) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that transformers reads otherwise than a stack needs: its name, what is meant and what is read."""
    before = _as_read(config)
    if before is None:
        return  # of a kind or with values that transformers does not take: reported where they matter
    changed = copy.deepcopy(dict(config))
    write_stack(changed.get("text_config", changed), layers, kinds)
    after = _as_read(changed)
    if after is None:
        yield DEPTH, layers, "nothing, because transformers rejects it"
        return
    depth = before.get(DEPTH)
    for name in sorted(before.keys() | after.keys()):
        was, read = before.get(name), after.get(name)
        meant = {DEPTH: layers, KINDS_OF_ATTENTION: kinds}.get(name, was)
        # Other settings of each layer are all alike here, or `check_layer_settings` refuses them.
        if isinstance(was, list) and len(was) == depth and isinstance(read, list) and name != KINDS_OF_ATTENTION:
            meant, read = was[:1] * layers, read[:layers]
        if read != meant and name != WINDOWED:
            yield name, meant, read


def _as_read(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The language model's settings as transformers completes them; None if it does not take the configuration."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        return None
    with suppress(CheckpointError), explained(Path(CONFIG)):
        read: dict[str, Any] = CONFIG_MAPPING[kind].from_dict(copy.deepcopy(dict(config))).get_text_config().to_dict()
        return read
    return None


def _depth(model: OpenModel) -> int:
    """How many layers a model has, in the files and, where it lists their kinds, in its configuration."""
    kinds = layer_kinds(model)
    return min(depth_of(model), len(kinds)) if kinds is not None else depth_of(model)
