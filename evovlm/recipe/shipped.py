"""Recipes by name: a user's file, or one that ships with evovlm.

Knows where the shipped recipes are, in an installed package and in a clone; opens no models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import placed_errors, read_recipe
from evovlm.system.errors import RecipeError
from evovlm.system.files import counted_from

# A shipped recipe's relative paths start here, as if the recipe were in this folder of the user's working directory.
AS_IF_IN = Path("recipes")


def shipped_recipes() -> dict[str, Path]:
    """The files of the recipes that ship with evovlm, by name, in alphabetical order.

    Raises RecipeError if the installation does not have them.
    """
    package = Path(__file__).parent
    inside = package / "shipped"  # their place in the wheel; in a clone they are next to the package
    folder = inside if inside.is_dir() else package.parents[1] / "recipes"
    found = {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
    if not found:
        raise RecipeError(f"{folder}: the shipped recipes are missing; reinstall evovlm")
    return found


def find_file(named: str | Path, shipped: Mapping[str, Path], kind: str) -> Path:
    """The file for a path or a name. A user's file takes precedence over a shipped one of the same name.

    `kind`: what errors call it, such as "recipe". Raises RecipeError, which lists the names to choose from, if there is
    neither.
    """
    path = Path(named)
    if str(path) in shipped and (path.is_dir() or not path.exists()):
        return shipped[str(path)]
    if path.exists() or path.is_symlink():  # a link to nowhere, or to itself, is reported where it is read
        return path
    raise RecipeError(
        f"{named}: no such {kind} file; give a path, or choose from {list(shipped)}, which ship with evovlm"
    )


def means_recipe(named: str | Path) -> bool:
    """Whether a text names a recipe (a YAML file or a shipped name) and not a model. A folder always means a model."""
    path = Path(named)
    return path.suffix in (".yaml", ".yml") or (str(path) in shipped_recipes() and not path.is_dir())


@contextmanager
def placed_recipe_errors(named: str | Path) -> Iterator[None]:
    """As `placed_errors`, for the recipe that a path or a name means."""
    with placed_errors(find_file(named, shipped_recipes(), "recipe")):
        yield


def named_recipe(named: str | Path) -> Recipe:
    """Read a recipe from a file or by its shipped name, and set its `root`, from which relative paths start.

    Raises RecipeError if there is none, or if it has mistakes (with file, line and key of each).
    """
    path = find_file(named, shipped_recipes(), "recipe")
    recipe = read_recipe(path)
    return recipe if path == Path(named) else recipe.counted_from(counted_from(Path(), AS_IF_IN))
