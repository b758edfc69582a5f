"""A task at lower cost: one tile per image, 8-bit products, fewer beams, shorter answers. Knows recipes; no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evovlm.recipe.search_settings import Fidelity
from evovlm.tasks.protocol import Generation, Item, ItemScore, Task


@dataclass(frozen=True)
class Cheaper:
    """A task whose answers are generated at a lower fidelity; items and scoring are those of the wrapped task."""

    task: Task
    fidelity: Fidelity

    @property
    def name(self) -> str:
        """The wrapped task's name."""
        return self.task.name

    @property
    def splits(self) -> tuple[str, ...]:
        """The wrapped task's splits."""
        return self.task.splits

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The wrapped task's test splits."""
        return self.task.test_splits

    @property
    def rules(self) -> Mapping[str, Any]:
        """The wrapped task's rules."""
        return self.task.rules

    @property
    def generation(self) -> Generation:
        """The task's generation settings, reduced as `fidelity` says; never more costly than the task's own."""
        full = self.task.generation
        return replace(
            full,
            max_new_tokens=min(full.max_new_tokens, self.fidelity.new_tokens or full.max_new_tokens),
            num_beams=min(full.num_beams, self.fidelity.beams or full.num_beams),
            base_tile=full.base_tile or self.fidelity.base_tile,
            eight_bit=full.eight_bit or self.fidelity.eight_bit,
        )

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """The wrapped task's items."""
        return self.task.items(split, count, seed)

    def score(self, item: Item, answer: str) -> ItemScore:
        """The wrapped task's score."""
        return self.task.score(item, answer)
