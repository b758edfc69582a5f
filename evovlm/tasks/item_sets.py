"""The items of a recipe: what its search sees, what chooses the winner, what judges it; and that they stay apart.

Knows recipes and tasks; no models. A set carries its own task, so that its items are asked and marked by no other's
rules. Ids that two sets share refuse the recipe. Search items that look like a validation or test item (`overlap`) are
left out and told; where they are many, the sets are one and the recipe is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from evovlm.recipe.schema import Data, Recipe
from evovlm.system.errors import RecipeError
from evovlm.tasks import Item, Options, Task, parse_split
from evovlm.tasks.overlap import find_overlap

# Enough for intervals of a few points; the choice among ten candidates and the sweeps need fewer.
ITEMS = {"validation": 300, "test": 500}
MOST_LEFT_OUT = 0.05


@dataclass(frozen=True)
class ItemSet(Sequence[Item]):
    """Items with the task that asks and marks them: its prompt, its generation settings, its score.

    `name`: what the set is for (search, validation, test). `where`: TASK:SPLIT or TASK@PATH:SPLIT, where its items
    come from. A sequence of its items, a slice of which is a set again.
    """

    name: str
    where: str
    task: Task
    items: tuple[Item, ...]

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> ItemSet: ...

    def __getitem__(self, place: int | slice) -> Item | ItemSet:
        return self.of(self.items[place]) if isinstance(place, slice) else self.items[place]

    def __len__(self) -> int:
        return len(self.items)

    def of(self, items: Iterable[Item]) -> ItemSet:
        """Other items, some of these or changed ones, with the same task."""
        return replace(self, items=tuple(items))

    def at(self, places: Iterable[int]) -> ItemSet:
        """The items at these places, in this order."""
        return self.of(self.items[place] for place in places)


@dataclass(frozen=True)
class ItemSets:
    """A recipe's sets. `validation`: None where the recipe names none. `left_out`: search items too like the others."""

    search: ItemSet
    validation: ItemSet | None
    test: ItemSet
    left_out: int

    @property
    def choice(self) -> ItemSet:
        """What the winner is chosen on, and the best point of a control: the validation set where there is one."""
        return self.search if self.validation is None else self.validation


def data_of(recipe: Recipe) -> Data:
    """The recipe's data. Raises RecipeError where it names none."""
    if recipe.data is None:
        raise RecipeError("data: the recipe names no data; give `search` and `test`, such as zoo-vqa:search")
    return recipe.data


def read_item_set(
    name: str, where: str, count: int | None, seed: int, *, options: Options | None = None, root: Path | None = None
) -> ItemSet:
    """At most `count` items of a split, with its task. A path in `where` counts from `root`.

    Raises RecipeError for a task or split that there is not, and DataError where its data cannot be read.
    """
    task, split = parse_split(where, options, root)
    return ItemSet(name, where, task, tuple(task.items(split, count, seed)))


def read_item_sets(
    recipe: Recipe, root: Path, *, count: int | None, seed: int, judged: int | None, download: bool
) -> ItemSets:
    """All sets, clear of each other. Paths of data count from `root`. Raises RecipeError and DataError."""
    data = data_of(recipe)
    options = Options(preset=data.preset, download=download)
    task, split = parse_split(data.search, options, root)
    if split in task.test_splits:
        raise RecipeError(f"data.search: {data.search} is a test set; search on another split")
    search = ItemSet("search", data.search, task, tuple(task.items(split, count, seed)))
    judging = {
        name: read_item_set(name, where, judged or ITEMS[name], seed, options=options, root=root)
        for name, where in (("validation", data.validation), ("test", data.test))
        if where is not None
    }
    refuse_shared({"search": search, **judging})
    kept = search.of(clear_of(search, judging))
    return ItemSets(kept, judging.get("validation"), judging["test"], len(search) - len(kept))


def refuse_shared(named: Mapping[str, Sequence[Item]]) -> None:
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


def clear_of(items: Sequence[Item], judging: Mapping[str, Sequence[Item]]) -> list[Item]:
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
