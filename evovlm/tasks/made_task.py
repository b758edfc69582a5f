"""A task that generates its own items, as the zoos do: any number, from a seed, with splits disjoint by construction.

Knows items and scorers; a function passed in generates the items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from evovlm.recipe.limits import MOST_MADE_ITEMS
from evovlm.system.errors import DataError, RecipeError
from evovlm.tasks._data_task import Mark
from evovlm.tasks._marking import FULL
from evovlm.tasks.options import Options
from evovlm.tasks.protocol import Generation, Item, ItemScore

Make = Callable[[str, int, int], list[Item]]  # split, count, seed
DEFAULT_ITEMS = 500


@dataclass(frozen=True)
class MadeTask:
    """A `Task`: `make` generates a split's items, `mark` scores an answer, `judged` is reported as `rules`.

    `right`: whether an answer says the right thing, whatever its style and language. `restyled`: rewords an answer as
    the references are worded, without adding what it does not say. None: the task cannot tell, or has no such rules.
    """

    name: str
    generation: Generation
    make: Make
    mark: Mark
    judged: Mapping[str, Any]
    right: Callable[[Item, str], bool | None] | None = None
    restyled: Callable[[Item, str], str] | None = None
    splits: ClassVar[tuple[str, ...]] = ("search", "validation", "test")
    test_splits: ClassVar[tuple[str, ...]] = ("test",)

    @property
    def rules(self) -> Mapping[str, Any]:
        """How answers are scored, for reports."""
        return dict(self.judged)

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` items (default 500); the same seed gives the same items.

        Raises RecipeError for an unknown split, and DataError for more than `MOST_MADE_ITEMS`.
        """
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        if count is not None and count > MOST_MADE_ITEMS:
            raise DataError(
                f"{self.name}: {count:,} items asked for; it generates at most {MOST_MADE_ITEMS:,} per split"
            )
        return self.make(split, count or DEFAULT_ITEMS, seed)

    def score(self, item: Item, answer: str) -> ItemScore:
        """The score of an answer; `beside` also has `content`, 100 or 0, if the task can tell."""
        found, right = self.mark(item, answer), self.content(item, answer)
        return found if right is None else replace(found, beside={**found.beside, "content": FULL * right})

    def content(self, item: Item, answer: str) -> bool | None:
        """Whether the answer says the right thing; None if the task cannot tell."""
        return None if self.right is None else self.right(item, answer)

    def restyle(self, item: Item, answer: str) -> str | None:
        """The answer reworded as the references are; None if the task has no rules for that."""
        return None if self.restyled is None else self.restyled(item, answer)


def refuse_choices(task: str, options: Options) -> None:
    """Raise DataError if a task that generates its own items is given a data path or a preset."""
    for key, given in (("@PATH", options.path), ("preset", options.preset)):
        if given is not None:
            raise DataError(f"{task}: generates its own questions and takes no {key}, but got {given}; leave it out")
