"""Check whether a model's search used the items it is tested on, by the search data in its recipe.

Knows recipes, tasks and the overlap check; no engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import UserError
from evovlm.tasks import Item, Options, parse_split
from evovlm.tasks.overlap import find_overlap
from evovlm_benchmarks.runner.suite import SuiteModel

RECIPE = "recipe.yaml"
TOLD = 5


def bred_on(model: SuiteModel, folder: Path, items: Sequence[Item]) -> dict[str, Any] | None:
    """Overlap between the test items and the items of the model's search; None if no search is known.

    Keys: `search`: TASK:SPLIT; `pairs`: number of overlaps; `examples`: the first few; `unknown`: why the check was
    impossible, if it was.
    """
    try:
        search, count, seed, root, options = _search_of(model, folder)
    except UserError as error:
        return {"search": RECIPE, "unknown": str(error)}
    if search is None:
        return None
    try:
        task, split = parse_split(search, options, root)
        found = find_overlap(task.items(split, count, seed), items)
    except UserError as error:
        return {"search": search, "unknown": str(error)}
    return {"search": search, "pairs": len(found), "examples": [vars(pair) for pair in found[:TOLD]]}


def _search_of(model: SuiteModel, folder: Path) -> tuple[str | None, int | None, int, Path, Options]:
    """A model's search items: TASK:SPLIT (None if unknown), count, seed, root of relative paths, and the revisions."""
    if model.search is not None:
        return model.search, None, 0, Path(), Options()
    path = folder / RECIPE
    if not path.exists():
        return None, None, 0, folder, Options()
    recipe = read_recipe(path)
    if recipe.data is None or recipe.search is None:
        return None, None, 0, folder, Options()
    options = Options(revisions=recipe.data.revisions)
    return recipe.data.search, recipe.search.items, recipe.search.seed, folder, options
