"""Genome: a point of the unit cube, and the recipe that it stands for.

Knows the recipe's schema and layer groups; no models and no optimisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evovlm.errors import RecipeError
from evovlm.groups import group_names
from evovlm.methods import METHODS
from evovlm.recipe import WHOLE, Bounds, Recipe, Search, SourceParameters, value_at


@dataclass(frozen=True)
class Gene:
    """One number that evolution may choose: a source's weight or density in one layer group."""

    source: str
    parameter: str  # "weight" or "density"
    group: str
    bounds: Bounds

    @property
    def name(self) -> str:
        """As it stands in the study's header: `ja.weight.layers 0-3`."""
        return f"{self.source}.{self.parameter}.{self.group}"

    def value(self, point: float) -> float:
        """The parameter's value at a point of the unit interval."""
        return self.bounds.low + (self.bounds.high - self.bounds.low) * point

    def point(self, value: float) -> float:
        """The inverse of `value`, clipped to the unit interval."""
        return min(1.0, max(0.0, (value - self.bounds.low) / (self.bounds.high - self.bounds.low)))


def genes_of(recipe: Recipe, layers: int) -> tuple[Gene, ...]:
    """The genes of a recipe's search: source by source, weights before densities, groups in model order.

    `layers`: the number of layers of the tower. A method that drops nothing has no density genes.
    Raises RecipeError where the recipe has no search or nothing to search.
    """
    if recipe.search is None:
        raise RecipeError("search: the recipe has no `search` section, so there is nothing to evolve")
    bounds = {"weight": recipe.search.weight}
    if METHODS[recipe.method].drop is not None:
        bounds["density"] = recipe.search.density
    genes = tuple(
        Gene(source, parameter, group, span)
        for source in recipe.source_names
        for parameter, span in bounds.items()
        if span is not None
        for group in group_names(recipe.groups, layers)
    )
    if not genes:
        raise RecipeError("search: neither `weight` nor `density` has bounds, so there is nothing to evolve")
    return genes


def express(recipe: Recipe, genes: Sequence[Gene], genome: Sequence[float]) -> Recipe:
    """The recipe with the genome's values as its parameters."""
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for gene, point in zip(genes, genome, strict=True):
        chosen.setdefault(gene.source, {}).setdefault(gene.parameter, {})[gene.group] = gene.value(point)
    parameters = dict(recipe.parameters)
    for source, values in chosen.items():
        plain = {name: by_group.get(WHOLE, by_group) for name, by_group in values.items()}
        kept = recipe.of(source).model_dump()
        parameters[source] = SourceParameters.model_validate(kept | plain)
    return recipe.model_copy(update={"parameters": parameters})


def encode(recipe: Recipe, genes: Sequence[Gene]) -> tuple[float, ...]:
    """The genome that stands for a recipe's present parameters (clipped to the genes' bounds)."""
    return tuple(
        gene.point(value_at(getattr(recipe.of(gene.source), gene.parameter), gene.group, 1.0)) for gene in genes
    )


def uniform(recipe: Recipe, weights: dict[str, float], *, density: float = 1.0) -> Recipe:
    """The recipe with one weight a source, for the whole model: averages and sweeps, the controls of a search."""
    parameters = {name: SourceParameters(weight=weights[name], density=density) for name in recipe.source_names}
    return recipe.model_copy(update={"parameters": parameters})


def search_of(recipe: Recipe) -> Search:
    """The recipe's search section. Raises RecipeError where there is none."""
    if recipe.search is None:
        raise RecipeError("search: the recipe has no `search` section; see recipes/zoo-vlm.yaml for one")
    return recipe.search
