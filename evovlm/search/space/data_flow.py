"""The data-flow space of a recipe: its genes, and the route for a genome.

Knows the recipe's schema and the number of layers of each source; no tensors and no optimisers. Genes for the
indicators come first, in step order, then genes for the scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from evovlm.recipe.route import MAX_STEPS, Route, Step, identity
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Bounds, RouteSpace
from evovlm.search.space._gene import Gene
from evovlm.search.space._route_network import scale_of, weights_in
from evovlm.system.errors import RecipeError

Layer = tuple[str, int]
# Where a search starts: the owner's layers are probably on and all others probably off. With the paper's sigma of
# 1/6, one bit in fifteen differs from that.
LIKELY, UNLIKELY = 0.75, 0.25
SWITCH = Bounds(low=-1.0, high=1.0)  # an indicator is on above 0 (arXiv:2403.13187)
THETA = Bounds(low=-3.0, high=3.0)


@dataclass(frozen=True)
class DataFlow:
    """The data-flow space of one recipe. `entries`: the layer of each indicator, in step order, after the prefix."""

    owner: str
    space: RouteSpace
    layers: tuple[Layer, ...]  # all M layers of all sources
    prefix: Route
    entries: tuple[Layer, ...]
    pairs: tuple[tuple[Layer, Layer], ...]  # possible transitions, one gene each; empty unless scales is `matrix`

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The genes: indicators, then scales."""
        count: dict[Layer, int] = {}
        genes = []
        for source, layer in self.entries:
            count[source, layer] = count.get((source, layer), 0) + 1
            genes.append(Gene(source, "use", f"layer {layer} pass {count[source, layer]}", SWITCH))
        for (left, i), (right, j) in self.pairs:
            genes.append(Gene(left, "scale", f"layer {i} to {right} {j}", self.space.scale))
        if self.space.scales == "network":
            genes += [Gene(self.owner, "theta", str(index), THETA) for index in range(weights_in(self.space.hidden))]
        return tuple(genes)

    @property
    def start(self) -> tuple[float, ...]:
        """Where a search starts, as points in [0, 1]: around the unchanged owner, without scaling."""
        seen: set[Layer] = set()
        points = []
        for entry in self.entries:
            points.append(LIKELY if entry[0] == self.owner and entry not in seen else UNLIKELY)
            seen.add(entry)
        reals = self.genes[len(self.entries) :]
        return tuple(points + [gene.point(1.0 if gene.parameter == "scale" else 0.0) for gene in reals])

    def active(self, bits: Sequence[bool]) -> list[int]:
        """Indices of the scale genes (from the first scale gene) that have an effect with these indicators."""
        if self.space.scales == "network":
            return list(range(weights_in(self.space.hidden)))
        used = [(step.source, step.layer) for step in self.prefix[-1:]]
        used += [entry for entry, bit in zip(self.entries, bits, strict=True) if bit]
        place = {pair: index for index, pair in enumerate(self.pairs)}
        return sorted({place[pair] for pair in pairwise(used) if pair in place})

    def route(self, genome: Sequence[float]) -> Route:
        """The route for a genome; empty if no indicator is on and there is no prefix.

        As in the paper (arXiv:2403.13187, section 3.2): the layer of entry t is used if indicator t is above 0, and
        W_ij scales the residual stream between layer i and layer j.
        """
        bits, reals = genome[: len(self.entries)], genome[len(self.entries) :]
        on = [(t, entry) for t, (entry, bit) in enumerate(zip(self.entries, bits, strict=True)) if is_on(bit)]
        values = [gene.value(point) for gene, point in zip(self.genes[len(self.entries) :], reals, strict=True)]
        of_pair = dict(zip(self.pairs, values, strict=True)) if self.space.scales == "matrix" else {}
        steps = list(self.prefix)
        for t, entry in on:
            scale = 1.0
            if steps:
                before = (steps[-1].source, steps[-1].layer)
                scale = self._scale(values, of_pair, before, entry, t)
            steps.append(Step(source=entry[0], layer=entry[1], scale=scale))
        return tuple(steps)

    def express(self, recipe: Recipe, genome: Sequence[float]) -> Recipe:
        """The recipe with the genome's route."""
        return recipe.model_copy(update={"route": self.route(genome)})

    def _scale(
        self, values: Sequence[float], of_pair: Mapping[tuple[Layer, Layer], float], i: Layer, j: Layer, t: int
    ) -> float:
        # Round to six digits, so that the scale in a recipe is the one that was scored.
        if self.space.scales == "matrix":
            return round(of_pair[i, j], 6)
        if self.space.scales == "none":
            return 1.0
        most = max(1, len(self.layers) - 1)
        place = (self.layers.index(i) / most, self.layers.index(j) / most, t / max(1, len(self.entries) - 1))
        return round(scale_of(values, place, self.space.scale.low, self.space.scale.high), 6)


def is_on(point: float) -> bool:
    """Whether an indicator gene is on."""
    return point > 0.5


def data_flow(recipe: Recipe, depths: Mapping[str, int]) -> DataFlow:
    """The data-flow space that a recipe searches. `depths`: number of layers by source.

    Raises RecipeError if the recipe has no data-flow search, the range of scales contains 0, the prefix names an
    unknown source or leaves nothing to search, or routes could be longer than the KV cache.
    """
    if recipe.search is None or recipe.search.route is None:
        raise RecipeError("search.route: the recipe does not search the data-flow space")
    space = recipe.search.route
    if space.scale.low <= 0 <= space.scale.high and space.scales != "none":
        span = f"[{space.scale.low}, {space.scale.high}]"
        raise RecipeError(
            f"search.route.scale: {span} contains 0, which would destroy the residual stream; keep to one side of it"
        )
    prefix: Route = ()
    if space.prefix is not None:
        if space.prefix.source not in depths:
            raise RecipeError(
                f"search.route.prefix: unknown source {space.prefix.source!r}; choose from {sorted(depths)}"
            )
        prefix = identity(space.prefix.source, space.prefix.layers)
    layers = tuple((name, layer) for name in recipe.source_names for layer in range(depths[name]))
    free = [layer for layer in layers if layer[1] >= len(prefix)]
    if space.ordered:
        depth = max((layer for _, layer in free), default=-1) + 1
        entries = [pair for at in range(depth) for _ in range(space.repeats) for pair in free if pair[1] == at]
    else:
        entries = free * space.repeats
    if not entries:
        raise RecipeError("search.route.prefix: it fixes all layers, so there is nothing to search; shorten it")
    if len(prefix) + len(entries) > MAX_STEPS:
        text = f"routes can have up to {len(prefix) + len(entries)} steps, but the KV cache holds {MAX_STEPS}"
        raise RecipeError(f"search.route.repeats: {text}; lower it, or fix a longer prefix")
    owner = recipe.owner or recipe.source_names[0]
    return DataFlow(owner, space, layers, prefix, tuple(entries), _pairs(space, prefix, entries))


def _pairs(space: RouteSpace, prefix: Route, entries: Sequence[Layer]) -> tuple[tuple[Layer, Layer], ...]:
    """The transitions that some route can make: i is somewhere before j. In order of their first occurrence."""
    if space.scales != "matrix":
        return ()
    before: dict[Layer, None] = {(step.source, step.layer): None for step in prefix[-1:]}
    found: dict[tuple[Layer, Layer], None] = {}
    for entry in entries:
        found |= {(left, entry): None for left in before}
        before[entry] = None
    return tuple(found)
