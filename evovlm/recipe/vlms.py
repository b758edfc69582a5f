"""A merge of vision-language models from a recipe that was written for language models, as mergekit's files are.

Knows recipes; opens no models.
"""

from __future__ import annotations

from pydantic import ValidationError

from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError

VISION = {"tower": "owner", "whole": "merged"}


def as_vlms(recipe: Recipe, what: str) -> Recipe:
    """The recipe for models that are all vision-language models of one family.

    `tower`: their language towers are merged, and vision tower and projector are the owner's. `whole`: every tensor is
    merged. The owner is the recipe's, or its first source. Raises RecipeError for a recipe that cannot be read so.
    """
    if what not in VISION:
        raise RecipeError(f"--vlms: unknown value {what!r}; choose from {sorted(VISION)}")
    content = recipe.model_dump(by_alias=True) | {
        "kind": "vlm",
        "owner": recipe.owner or recipe.source_names[0],
        "vision": VISION[what],
    }
    try:
        return Recipe.model_validate(content).counted_from(recipe.root)
    except ValidationError as error:
        raise RecipeError(f"--vlms {what}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
