"""Checks the recipe's settings against its models: method, owner, groups, slices, revisions.

Knows layer counts and names; does not look at shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from evovlm.merging.check._finding import Finding
from evovlm.methods import METHODS
from evovlm.models.foreign_kinds import foreign_kind
from evovlm.models.open_model import OpenModel
from evovlm.recipe.layer_groups import LAYER_RANGE, group_names, grouping, layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError


def check_structure(
    recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel], base: OpenModel | None
) -> list[Finding]:
    """Check method, owner, slices, groups and revisions, given the opened models and their layer counts."""
    findings = [*_method(recipe, base), *_owner(recipe, owner), *_slices(recipe, sources), *_groups(recipe, owner)]
    named = {"base": recipe.base, **{f"sources.{source.name}": source for source in recipe.sources}}
    for key, model in named.items():
        opened = base if key == "base" else sources.get(key.removeprefix("sources."))
        if model is not None and model.revision and opened is not None and "snapshots" not in opened.folder.parts:
            text = f"{opened.folder} is a local folder: revision {model.revision!r} cannot be verified and is ignored"
            findings.append(Finding("note", f"{key}.revision", text))
    return findings


def count_layers(names: Iterable[str]) -> int:
    """Return the number of layers that occur in canonical tensor names."""
    return 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)


def _method(recipe: Recipe, base: OpenModel | None) -> Iterator[Finding]:
    method = METHODS.get(recipe.method)
    count = len(recipe.sources)
    if method is None:
        yield Finding("error", "method", f"unknown method {recipe.method!r}; choose from {sorted(METHODS)}")
    elif method.needs_base and base is None:
        yield Finding("error", "base", f"{recipe.method} merges differences from a common base model; set `base`")
    if method is not None and recipe.method != "passthrough" and not method.takes(count):
        text = f"{recipe.method} takes {method.sources_in_words}, not {count}; change `sources`, or use `linear`"
        yield Finding("error", "sources", text)
    routed = recipe.route or (recipe.search is not None and recipe.search.route is not None)
    if recipe.method == "passthrough" and not recipe.slices and not routed and count != 1:
        text = (
            f"passthrough copies one source, or stacks `slices` or a `route` of several; there are {count} sources and"
            " no slices"
        )
        yield Finding("error", "slices", text)
    if recipe.slices and recipe.method != "passthrough":
        yield Finding("error", "slices", f"only `method: passthrough` stacks layers; {recipe.method} does not")


def _owner(recipe: Recipe, owner: OpenModel) -> Iterator[Finding]:
    owned = foreign_kind(owner.config, owner.checkpoint.keys()).owned
    if owned is not None:
        yield Finding("error", "owner", f"{owner.label} {owned}")
    elif recipe.kind == "vlm" and owner.layout.kind != "vlm":
        text = f"{owner.label} has no vision tower (layout {owner.layout.name}); set `owner` to a vision-language model"
        yield Finding("error", "owner", text)
    if owner.between and (recipe.slices or recipe.route or (recipe.search and recipe.search.route)):
        text = (
            f"{owner.label} has layers that attend to the picture between those of its language model, so layers cannot"
            " be stacked or routed; merge weights instead"
        )
        yield Finding("error", "owner", text)
    if recipe.kind == "llm" and owner.layout.kind == "vlm":
        text = (
            f"{owner.label} is a vision-language model, whose vision tower is kept; set `kind: vlm`, or another owner;"
            " for a mergekit file, say with --vlms what is to be merged"
        )
        yield Finding("error", "kind", text)


def _slices(recipe: Recipe, sources: Mapping[str, OpenModel]) -> Iterator[Finding]:
    for index, part in enumerate(recipe.slices):
        layers = count_layers(sources[part.source].tower)
        if part.layers[1] > layers:
            text = f"layers {list(part.layers)} of {part.source}, which has {layers}; end at {layers} or below"
            yield Finding("error", f"slices.{index}", text)


def _groups(recipe: Recipe, owner: OpenModel) -> Iterator[Finding]:
    stacked = sum(part.layers[1] - part.layers[0] for part in recipe.slices) or len(recipe.route)
    layers = stacked or count_layers(owner.tower)
    try:
        groups = group_names(recipe.groups, layers)
        group_of = grouping(recipe.groups, layers)
        used = {group_of(name) for name in owner.tower} if not stacked else set(groups)
    except RecipeError as error:
        yield Finding("error", "groups", str(error).removeprefix("groups: "))
        return
    yield from _ranges(recipe, layers)
    for name in groups if isinstance(recipe.groups, Mapping) else ():
        if name not in used:
            text = (
                "no tensor is in this group, because no name matches or an earlier group has them; correct or remove it"
            )
            yield Finding("error", f"groups.{name}", text)
    for source, parameters in recipe.parameters.items():
        for quantity, given in (("weight", parameters.weight), ("density", parameters.density)):
            strangers = [name for name in given if name not in groups] if isinstance(given, dict) else []
            if strangers:
                text = f"unknown layer groups {strangers}; choose from {groups}, or set `groups`"
                yield Finding("error", f"parameters.{source}.{quantity}", text)
    for name in () if recipe.method == "passthrough" else recipe.source_names:
        if name not in recipe.parameters and recipe.search is None and METHODS.get(recipe.method) is not None:
            yield Finding("note", f"sources.{name}", "no parameters in the recipe: weight 1 and density 1 are used")


def _ranges(recipe: Recipe, layers: int) -> Iterator[Finding]:
    """Report runs of layers that end beyond the last one: the recipe was written for a deeper model."""
    for group, patterns in recipe.groups.items() if isinstance(recipe.groups, dict) else ():
        for span in filter(None, map(LAYER_RANGE.match, patterns)):
            if int(span.group(2)) >= layers:
                text = f"{span.group()!r} in {group!r}: the model has layers 0 to {layers - 1}; end there"
                yield Finding("error", "groups", text)
