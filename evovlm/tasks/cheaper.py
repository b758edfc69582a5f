"""A task at lower cost: one tile per image, 8-bit products, fewer beams, shorter answers. Knows recipes; no models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def idle_settings(fidelity: Fidelity, full: Generation, *, tiles: bool) -> Iterator[tuple[str, str]]:
    """Yield (setting, why) for each setting of a fidelity that makes no answer cheaper than those of a task in full.

    tiles: whether the pictures of the model that is asked have tiles.
    """
    if fidelity.base_tile and not tiles:
        yield "base_tile", "no picture has tiles here"
    elif fidelity.base_tile and full.base_tile:
        yield "base_tile", "the preset asks with the base tile alone in any case"
    if fidelity.beams is not None and fidelity.beams >= full.num_beams:
        yield "beams", f"the preset's `num_beams` is {full.num_beams} in any case"
    if fidelity.new_tokens is not None and fidelity.new_tokens >= full.max_new_tokens:
        yield "new_tokens", f"the preset's `max_new_tokens` is {full.max_new_tokens} in any case"


def idle_in_words(fidelity: Fidelity, full: Generation, *, tiles: bool) -> str:
    """A sentence on the settings that make no answer cheaper; empty if each does."""
    idle = dict(idle_settings(fidelity, full, tiles=tiles))
    if not idle:
        return ""
    given = {"base_tile": fidelity.base_tile, "beams": fidelity.beams, "new_tokens": fidelity.new_tokens}
    used = fidelity.eight_bit or any(value and name not in idle for name, value in given.items())
    what = f"{' and '.join(idle)} makes no answer cheaper" if used else "no answer is cheaper, so it saves nothing"
    return f"{what}: {', and '.join(idle.values())}; remove it"
