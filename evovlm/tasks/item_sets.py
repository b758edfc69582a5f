"""The items of a recipe: what its search sees, what chooses the winner, what judges it; and that they stay apart.

Knows recipes and tasks; no models. Ids that two sets share refuse the recipe. Search items that look like a validation
or test item (`overlap`) are left out and told; where they are many, the sets are one and the recipe is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evovlm.recipe.schema import Data, Recipe
from evovlm.system.errors import RecipeError
from evovlm.tasks import Item, Options, Task, parse_split
from evovlm.tasks.overlap import find_overlap

# Enough for intervals of a few points; the choice among ten candidates and the sweeps need fewer.
ITEMS = {"validation": 300, "test": 500}
MOST_LEFT_OUT = 0.05


@dataclass(frozen=True)
class ItemSets:
    """`judging`: "test", and "validation" where the recipe names it. `left_out`: search items too like them."""

    task: Task
    search: tuple[Item, ...]
    judging: dict[str, list[Item]]
    left_out: int


def data_of(recipe: Recipe) -> Data:
    """The recipe's data. Raises RecipeError where it names none."""
    if recipe.data is None:
        raise RecipeError("data: the recipe names no data; give `search` and `test`, such as zoo-vqa:search")
    return recipe.data


def read_item_sets(
    recipe: Recipe, root: Path, *, count: int | None, seed: int, judged: int | None, download: bool
) -> ItemSets:
    """All sets, clear of each other. Paths of data count from `root`. Raises RecipeError and DataError."""
    data = data_of(recipe)
    options = Options(preset=data.preset, download=download)
    task, split = parse_split(data.search, options, root)
    if split in task.test_splits:
        raise RecipeError(f"data.search: {data.search} is a test set; search on another split")
    search = task.items(split, count, seed)
    judging = {}
    for name, where in (("validation", data.validation), ("test", data.test)):
        if where is not None:
            other, part = parse_split(where, options, root)
            judging[name] = other.items(part, judged or ITEMS[name], seed)
    refuse_shared({"search": search, **judging})
    kept = clear_of(search, judging)
    return ItemSets(task, tuple(kept), judging, len(search) - len(kept))


def refuse_shared(named: dict[str, Sequence[Item]]) -> None:
    """Raises RecipeError where two sets of items share one: a search must never see what judges it."""
    names = list(named)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            shared = {item.id for item in named[one]} & {item.id for item in named[other]}
            if shared:
                raise RecipeError(
                    f"data: {one} and {other} share {len(shared)} items, {sorted(shared)[0]} among them;"
                    " choose splits that are disjoint"
                )


def clear_of(items: Sequence[Item], judging: dict[str, list[Item]]) -> list[Item]:
    """The items without those that look like one of the judging sets. Raises RecipeError where they are many."""
    alike: dict[str, str] = {}
    for name, others in judging.items():
        for pair in find_overlap(items, others):
            alike.setdefault(pair.one, f"{pair.kind} of {name} item {pair.other}, {pair.likeness:.0%} alike")
    if len(alike) > MOST_LEFT_OUT * len(items):
        item, told = next(iter(alike.items()))
        raise RecipeError(
            f"data: {len(alike)} of {len(items)} search items look like items that judge them ({item}: {told});"
            " search on other data"
        )
    return [item for item in items if item.id not in alike]
