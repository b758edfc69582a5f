"""Layer groups: which gene controls which tensor. Canonical names in, group names out.

Knows only tensor names in the causal-LM layout; no files and no tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from functools import cache
from itertools import pairwise

from evovlm.models.layouts import LAYER
from evovlm.system.errors import RecipeError

LAYER_RANGE = re.compile(r"^layers (\d+)-(\d+)$")
EMBEDDINGS = "embeddings"
HEAD = "head"

GroupOf = Callable[[str], str]


def layer_of(name: str) -> int | None:
    """The layer index in a canonical tensor name, or None if it has none."""
    found = LAYER.match(name)
    return int(found.group(1)) if found else None


def block_names(blocks: int, layers: int) -> list[str]:
    """Names of `blocks` runs of layers of nearly equal length, such as `layers 0-3`."""
    edges = [round(index * layers / blocks) for index in range(blocks + 1)]
    return [f"layers {low}-{high - 1}" for low, high in pairwise(edges)]


def group_in_words(name: str) -> str:
    """A group's name for people: `layer 0` for `layers 0-0`. Recipes and studies keep the name."""
    span = LAYER_RANGE.match(name)
    return f"layer {span.group(1)}" if span and span.group(1) == span.group(2) else name


def group_names(spec: str | int | Mapping[str, tuple[str, ...]], layers: int) -> list[str]:
    """The groups that a recipe's `groups` gives for a model with `layers` layers, in model order.

    Raises RecipeError if there are more blocks than layers.
    """
    if isinstance(spec, str):
        return [spec]
    if isinstance(spec, int):
        if spec > layers:
            raise RecipeError(f"groups: {spec} blocks for {layers} layers; give at most {layers}")
        return [EMBEDDINGS, *block_names(spec, layers), HEAD]
    return list(spec)


def grouping(spec: str | int | Mapping[str, tuple[str, ...]], layers: int) -> GroupOf:
    """A function from canonical tensor name to group name.

    `layers`: the number of layers. Raises RecipeError if there are more blocks than layers; the function raises it for
    a tensor that no glob matches.
    """
    if isinstance(spec, str):
        whole: str = spec
        return lambda name: whole
    if isinstance(spec, int):
        named = {name: (name,) for name in group_names(spec, layers)[1:-1]}
        spec = {EMBEDDINGS: ("model.embed_tokens.*",), **named, HEAD: ("model.norm.*", "lm_head.*")}
    matchers = [(group, _matcher(pattern)) for group, patterns in spec.items() for pattern in patterns]

    @cache
    def group_of(name: str) -> str:
        for group, matches in matchers:
            if matches(name):
                return group
        raise RecipeError(f"groups: no group matches {name}; add a group with the glob `*` at the end")

    return group_of


def _matcher(pattern: str) -> Callable[[str], object]:
    """A function that says whether a name matches a pattern, made once: there may be thousands of both."""
    span = LAYER_RANGE.match(pattern)
    if span is None:
        # As `fnmatchcase`, whose memory of compiled patterns is smaller than a recipe may be long.
        return re.compile(translate(pattern)).match
    low, high = int(span.group(1)), int(span.group(2))
    return lambda name: (layer := layer_of(name)) is not None and low <= layer <= high
