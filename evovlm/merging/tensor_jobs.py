"""Jobs: the tensors that a merge produces, and the source tensors that go into each.

Knows recipes and open models' names and shapes; reads no tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evovlm.merging._folding import factor_of, has_sandwich
from evovlm.models.layouts import EMBEDDING, VOCABULARY_TENSORS
from evovlm.models.open_model import OpenModel
from evovlm.recipe.layer_groups import GroupOf, grouping, layer_of
from evovlm.recipe.route import Route, cumulative_scales
from evovlm.recipe.schema import WHOLE, Recipe


@dataclass(frozen=True)
class Job:
    """One tensor of the output's tower: its canonical name, key in the file, layer group, shape and inputs."""

    name: str
    key: str
    group: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, str], ...]  # (source, canonical name in that source), in source order
    factor: float = 1.0  # a route's scales, folded into the weights


def jobs_of(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> tuple[Job, ...]:
    """Return the jobs for all tensors of the output's tower: of a route, of slices, or of a tensor-wise merge."""
    if recipe.route:
        return tuple(route_jobs(recipe.route, owner, sources))
    return tuple(_stacked(recipe, owner, sources) if recipe.slices else _parallel(recipe, owner, sources))


def route_jobs(route: Route, owner: OpenModel, sources: Mapping[str, OpenModel]) -> Iterator[Job]:
    """Yield the jobs that turn a route into a plain stack of layers, with its scales folded into the weights.

    Everything outside the layers comes from the owner.
    """
    whole = next(name for name, model in sources.items() if model is owner)
    products = cumulative_scales(route)
    sandwich = has_sandwich(owner.tower)

    def job(name: str, source: str, origin: str, product: float) -> Job:
        model = sources[source]
        shape = model.checkpoint.shape(model.tower[origin])
        factor = factor_of(name, product, sandwich=sandwich)
        return Job(name, owner.layout.in_file(name), WHOLE, shape, ((source, origin),), factor)

    for name in owner.tower:
        if layer_of(name) is None:
            yield job(name, whole, name, products[-1])
    suffixes = [name.removeprefix("model.layers.0.") for name in owner.tower if layer_of(name) == 0]
    for index, step in enumerate(route):
        for suffix in suffixes:
            origin = f"model.layers.{step.layer}.{suffix}"
            yield job(f"model.layers.{index}.{suffix}", step.source, origin, products[index])


def _parallel(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> Iterator[Job]:
    """Every source contributes to every tensor of the owner's tower."""
    group_of = _group_of(recipe, list(owner.tower))
    for name, key in owner.tower.items():
        parts = tuple((source, name) for source in sources)
        yield Job(name, key, group_of(name), owner.checkpoint.shape(key), parts)


def _stacked(recipe: Recipe, owner: OpenModel, sources: Mapping[str, OpenModel]) -> Iterator[Job]:
    """passthrough: stack the sources' layers, with the first slice's embeddings and the last slice's norm and head.

    The same convention as mergekit. Number and order of vocabulary rows are the owner's.
    """
    first, last = recipe.slices[0].source, recipe.slices[-1].source
    outside = [name for name in owner.tower if layer_of(name) is None]
    names: list[tuple[str, str, str]] = [(name, first if name == EMBEDDING else last, name) for name in outside]
    suffixes = [name.removeprefix("model.layers.0.") for name in owner.tower if layer_of(name) == 0]
    stack = [(part.source, layer) for part in recipe.slices for layer in range(*part.layers)]
    for index, (source, layer) in enumerate(stack):
        for suffix in suffixes:
            names.append((f"model.layers.{index}.{suffix}", source, f"model.layers.{layer}.{suffix}"))
    group_of = _group_of(recipe, [name for name, _, _ in names])
    for name, source, origin in names:
        model = owner if name in VOCABULARY_TENSORS else sources[source]
        shape = model.checkpoint.shape(model.tower[origin])
        yield Job(name, owner.layout.in_file(name), group_of(name), shape, ((source, origin),))


def _group_of(recipe: Recipe, names: Sequence[str]) -> GroupOf:
    return grouping(recipe.groups, count_layers(names))


def count_layers(names: Iterator[str] | Sequence[str]) -> int:
    """Return the number of layers that occur in canonical tensor names."""
    return 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)
