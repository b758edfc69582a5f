"""Was a model bred on what it is tested on? Its recipe says what its search saw; the overlap is looked for.

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
    """What of the test items the model's search has seen; None where nothing is known of a search.

    `search`: TASK:SPLIT; `pairs`: how many overlaps; `examples`: a few; `unknown`: why it could not be looked for.
    """
    try:
        search, count, seed, root = _search_of(model, folder)
    except UserError as error:
        return {"search": RECIPE, "unknown": str(error)}
    if search is None:
        return None
    try:
        task, split = parse_split(search, Options(), root)
        found = find_overlap(task.items(split, count, seed), items)
    except UserError as error:
        return {"search": search, "unknown": str(error)}
    return {"search": search, "pairs": len(found), "examples": [vars(pair) for pair in found[:TOLD]]}


def _search_of(model: SuiteModel, folder: Path) -> tuple[str | None, int | None, int, Path]:
    """Search items of a model: where, how many, which seed, and what relative paths count from."""
    if model.search is not None:
        return model.search, None, 0, Path()
    path = folder / RECIPE
    if not path.exists():
        return None, None, 0, folder
    recipe = read_recipe(path)
    if recipe.data is None or recipe.search is None:
        return None, None, 0, folder
    return recipe.data.search, recipe.search.items, recipe.search.seed, folder
