"""Recipes by name: a file of the user's, or one that ships with evovlm.

Knows where the shipped recipes lie, in an installed package and in a clone; opens no models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import RecipeError

# The folder that a shipped recipe's relative paths count from, as if it lay there in the user's working directory.
AS_IF_IN = Path("recipes")


def shipped_recipes() -> dict[str, Path]:
    """The files of the recipes that ship with evovlm, by name, in alphabetical order.

    Raises RecipeError where the installation has lost them.
    """
    package = Path(__file__).parent
    inside = package / "shipped"  # where the wheel has them; a clone has them beside its package
    folder = inside if inside.is_dir() else package.parents[1] / "recipes"
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
    if not found:
        raise RecipeError(f"{folder}: the shipped recipes are missing; reinstall evovlm")
    return found


def find_file(named: str | Path, shipped: Mapping[str, Path], kind: str) -> Path:
    """The file that a path or a name stands for. A file of the user's comes before a shipped one of its name.

    `kind` is what an error calls it, such as "recipe". Raises RecipeError with the names to choose from where there is
    neither.
    """
    path = Path(named)
    if str(path) in shipped and (path.is_dir() or not path.exists()):
        return shipped[str(path)]
    if path.exists():
        return path
    raise RecipeError(
        f"{named}: no such {kind} file; give a path, or choose from {list(shipped)}, which ship with evovlm"
    )


def means_recipe(named: str | Path) -> bool:
    """Whether a text means a recipe (a YAML file, a shipped name) and not a model. A folder of that name is a model."""
    path = Path(named)
    return path.suffix in (".yaml", ".yml") or (str(path) in shipped_recipes() and not path.is_dir())


def named_recipe(named: str | Path) -> Recipe:
    """The recipe of a file, or the shipped one of that name; its `root` is what its relative folders count from.

    Raises RecipeError where there is none, or with file, line and key of each mistake in it.
    """
    path = find_file(named, shipped_recipes(), "recipe")
    recipe = read_recipe(path)
    return recipe if path == Path(named) else recipe.counted_from(AS_IF_IN)
