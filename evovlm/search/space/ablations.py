"""Baseline searches ("rivals") that a per-group CMA-ES must beat to justify its cost.

Knows only recipes; runs nothing.
"""

from __future__ import annotations

from evovlm.recipe.schema import WHOLE, Recipe, SourceParameters
from evovlm.search.space.parameters import search_of


def rivals_of(recipe: Recipe) -> dict[str, Recipe]:
    """Variants of the recipe's search without its strategy or without its layer groups, by baseline name.

    `random_search` draws the same number of candidates at random. `whole_model` (not for routes) searches one weight
    and density per source with the same searcher, to show what the layer groups contribute. Raises RecipeError if the
    recipe has no search.
    """
    search = search_of(recipe)
    rivals = {"random_search": recipe.model_copy(update={"search": search.model_copy(update={"algorithm": "random"})})}
    if search.route is None and recipe.groups != WHOLE:
        plain = {name: _ungrouped(recipe.of(name)) for name in recipe.source_names}
        rivals["whole_model"] = recipe.model_copy(update={"groups": WHOLE, "parameters": plain})
    return {name: rival for name, rival in rivals.items() if rival != recipe}


def _ungrouped(parameters: SourceParameters) -> SourceParameters:
    """The parameters without those given per group, which have no meaning for a whole model."""
    plain = {name: value for name, value in parameters.model_dump().items() if not isinstance(value, dict)}
    return SourceParameters.model_validate(plain)
