"""Pin a recipe: fix the revision of every model and data set that comes from the hub.

Knows recipes; reads no caches: the caller says which commits they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from evovlm.recipe.schema import Base, Recipe, Source

# A model as a recipe names it, with its revision.
Named = tuple[str, str | None]
Part = TypeVar("Part", Base, Source)


def models_of(recipe: Recipe) -> Iterator[tuple[str, Named]]:
    """Yield the key of each of a recipe's models, such as `sources.ja`, and its name; the base first."""
    if recipe.base is not None:
        yield "base", (recipe.base.model, recipe.base.revision)
    for source in recipe.sources:
        yield f"sources.{source.name}", (source.model, source.revision)


def pinned(recipe: Recipe, models: Mapping[Named, str], data: Mapping[str, str]) -> Recipe:
    """The recipe with these commits as revisions: of models by name, of data sets by repository on the hub.

    Models that have no commit here, and the recipe's other revisions of data sets, are kept.
    """

    def fixed(part: Part) -> Part:
        commit = models.get((part.model, part.revision), part.revision)
        return part.model_copy(update={"revision": commit})

    found = recipe.data and recipe.data.model_copy(update={"revisions": {**recipe.data.revisions, **data}})
    base = recipe.base and fixed(recipe.base)
    return recipe.model_copy(
        update={"base": base, "sources": tuple(fixed(source) for source in recipe.sources), "data": found}
    )
