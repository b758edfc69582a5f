"""Rivals: the searches that a per-group CMA-ES must beat to have been worth its while.

Knows recipes alone; runs nothing.
"""

from __future__ import annotations

from evovlm.recipe.schema import WHOLE, Recipe, SourceParameters
from evovlm.search.space.parameters import search_of


def rivals_of(recipe: Recipe) -> dict[str, Recipe]:
    """The same search with its strategy or its genes taken away, by the name of the control.

    `random_search` draws as many candidates at random. `whole_model` (weights and densities only) searches one
    weight and density a source, with the same searcher: what the layer groups are worth.
    """
    search = search_of(recipe)
    rivals = {"random_search": recipe.model_copy(update={"search": search.model_copy(update={"algorithm": "random"})})}
    if search.route is None and recipe.groups != WHOLE:
        plain = {name: _ungrouped(recipe.of(name)) for name in recipe.source_names}
        rivals["whole_model"] = recipe.model_copy(update={"groups": WHOLE, "parameters": plain})
    return {name: rival for name, rival in rivals.items() if rival != recipe}


def _ungrouped(parameters: SourceParameters) -> SourceParameters:
    """Parameters without those that are given by group, which mean nothing to a whole model."""
    plain = {name: value for name, value in parameters.model_dump().items() if not isinstance(value, dict)}
    return SourceParameters.model_validate(plain)
