"""Converts between genomes (points in the unit cube) and recipes.

Knows the recipe's schema and layer groups; no models and no optimisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evovlm.methods import METHODS
from evovlm.recipe.layer_groups import group_names
from evovlm.recipe.schema import WHOLE, Recipe, SourceParameters, value_at
from evovlm.recipe.search_settings import Search
from evovlm.search import SearchSettings
from evovlm.search.space._gene import Gene
from evovlm.search.space.data_flow import DataFlow
from evovlm.system.errors import RecipeError

__all__ = ["Gene", "encode", "express", "genes_of", "search_of", "search_settings", "uniform"]


def genes_of(recipe: Recipe, layers: int) -> tuple[Gene, ...]:
    """The genes of a recipe's search: by source, weights before densities, groups in model order.

    `layers`: number of layers of the language tower. A method that drops nothing has no density genes.
    Raises RecipeError if the recipe has no search section or nothing to search.
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
    """The genome for a recipe's current parameters (clipped to the genes' bounds)."""
    return tuple(
        gene.point(value_at(getattr(recipe.of(gene.source), gene.parameter), gene.group, 1.0)) for gene in genes
    )


def uniform(recipe: Recipe, weights: dict[str, float], *, density: float = 1.0) -> Recipe:
    """The recipe with one weight per source, for the whole model: averages and sweeps as baselines for a search."""
    return recipe.weighted({name: weights[name] for name in recipe.source_names}, density=density)


def search_of(recipe: Recipe) -> Search:
    """The recipe's search section. Raises RecipeError if there is none."""
    if recipe.search is None:
        raise RecipeError("search: the recipe has no `search` section; see `evovlm recipe show zoo-vlm`")
    return recipe.search


def search_settings(search: Search, genes: Sequence[Gene], space: DataFlow | None = None) -> SearchSettings:
    """The searcher's settings: number and kinds of genes; in data-flow space the search starts at the owner."""
    plain = SearchSettings(
        genes=len(genes),
        population=search.population,
        start=search.start,
        sigma=search.sigma,
        seed=search.seed,
        objectives=1 + len(search.objectives),
    )
    if space is None:
        return plain
    switch = search.switch if search.switch is not None else search.trials // 2
    return replace(plain, start=space.start, bits=len(space.entries), switch=switch, active=space.active)
