"""A recipe as shown to visitors: YAML without folders of this machine. Knows recipes; no components."""

from __future__ import annotations

from pathlib import Path

from evovlm.recipe.schema import Recipe
from evovlm.recipe.where import split_where
from evovlm.recipe.yaml_file import recipe_text


def shown_recipe(recipe: Recipe) -> str:
    """The recipe's YAML; a local model is shown as its folder's name, and `data` is omitted if it has local paths."""
    sources = tuple(source.model_copy(update={"model": _named(source.model)}) for source in recipe.sources)
    base = recipe.base and recipe.base.model_copy(update={"model": _named(recipe.base.model)})
    data = recipe.data
    if data is not None and any(
        split_where(getattr(data, name) or "")[1] is not None for name in ("search", "validation", "test")
    ):
        data = None
    return recipe_text(recipe.model_copy(update={"sources": sources, "base": base, "data": data}))


def _named(model: str) -> str:
    here = model.startswith(("/", "~", ".")) or Path(model).is_dir()
    return Path(model).name if here else model
