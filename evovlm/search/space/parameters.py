"""Converts between genomes (points in the unit cube) and recipes.

Knows the recipe's schema and layer groups; no models and no optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

from pydantic import ValidationError

from evovlm.methods import METHODS
from evovlm.methods.options import Shared
from evovlm.recipe.layer_groups import group_names
from evovlm.recipe.schema import WHOLE, Recipe, SourceParameters, value_at
from evovlm.recipe.search_settings import Search
from evovlm.search import SearchSettings
from evovlm.search.space._gene import Gene
from evovlm.search.space.data_flow import DataFlow
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged

__all__ = ["Gene", "encode", "express", "genes_of", "search_of", "search_settings", "unfit_options", "uniform"]

OPTIONS = "options"  # in place of a source, in the genes of options
LEVELS = ("weight", "density")


def genes_of(recipe: Recipe, layers: int) -> tuple[Gene, ...]:
    """The genes of a recipe's search: by source, weights before densities, groups in model order; then options.

    `layers`: number of layers of the language tower. A method that drops nothing has no density genes.
    Raises RecipeError if the recipe has no search section or nothing to search, or for an option that cannot be.
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
    for key, text in unfit_options(recipe):
        raise RecipeError(f"{key}: {text}")
    genes += tuple(Gene(OPTIONS, name, WHOLE, span) for name, span in recipe.search.options.items())
    if not genes:
        raise RecipeError("search: neither `weight` nor `density` has bounds, so there is nothing to evolve")
    return genes


def unfit_options(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for each option under `search.options` that cannot be searched.

    Numbers that the method reads can be, within the values that a recipe may have; not those that a method uses to
    prepare its task vectors, which a search does once.
    """
    row = METHODS.get(recipe.method)
    if recipe.search is None or row is None:
        return
    own = {} if row.options is None else row.options.model_fields
    numbers: list[str] = [name for name in row.uses if name not in ("normalize", "rescale")]
    if row.prepare is None:
        numbers += [name for name, field in own.items() if field.annotation in (int, float)]
    for name, span in recipe.search.options.items():
        key = f"search.options.{abridged(name)}"
        if name not in numbers:
            prepared = "task vectors are prepared with it, once per search"
            why = prepared if name in own and row.prepare is not None else f"{recipe.method} has no such number"
            yield key, f"{why}; " + (f"choose from {sorted(numbers)}" if numbers else "remove it")
            continue
        for end in (span.low, span.high):
            try:
                recipe.with_options({name: _typed(recipe, name, end)})
            except ValidationError as error:
                yield key, f"{end:g}: {error.errors()[0]['msg']}"
                break


def express(recipe: Recipe, genes: Sequence[Gene], genome: Sequence[float]) -> Recipe:
    """The recipe with the genome's values as its parameters and options."""
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    options: dict[str, float] = {}
    for gene, point in zip(genes, genome, strict=True):
        if gene.parameter in LEVELS:
            chosen.setdefault(gene.source, {}).setdefault(gene.parameter, {})[gene.group] = gene.value(point)
        else:
            options[gene.parameter] = _typed(recipe, gene.parameter, gene.value(point))
    parameters = dict(recipe.parameters)
    for source, values in chosen.items():
        plain = {name: by_group.get(WHOLE, by_group) for name, by_group in values.items()}
        kept = recipe.of(source).model_dump()
        parameters[source] = SourceParameters.model_validate(kept | plain)
    found = recipe.model_copy(update={"parameters": parameters})
    return found.with_options(options) if options else found


def encode(recipe: Recipe, genes: Sequence[Gene]) -> tuple[float, ...]:
    """The genome for a recipe's current parameters and options (clipped to the genes' bounds)."""
    return tuple(gene.point(_current(recipe, gene)) for gene in genes)


def _current(recipe: Recipe, gene: Gene) -> float:
    if gene.parameter in LEVELS:
        return value_at(getattr(recipe.of(gene.source), gene.parameter), gene.group, 1.0)
    if gene.parameter in get_args(Shared):
        return float(recipe.options.model_dump(by_alias=True)[gene.parameter])
    return float(getattr(METHODS[recipe.method].own_options(recipe.options.own), gene.parameter))


def _typed(recipe: Recipe, name: str, value: float) -> float:
    """An option's value, rounded if the option is a whole number."""
    schema = METHODS[recipe.method].options
    field = None if schema is None else schema.model_fields.get(name)
    return round(value) if field is not None and field.annotation is int else value


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
