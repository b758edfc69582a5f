"""A task made of a reader and a marker: what every task on files shares.

Knows items, presets and splits; reads no files itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evovlm.system.errors import DataError, RecipeError
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Preset, Presets, preset_of
from evovlm.tasks.protocol import Generation, Item, ItemScore

Read = Callable[[str], list[Item]]
Mark = Callable[[Item, str], ItemScore]
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class DataTask:
    """A `Task`: `read` gives a split's items in the order of the file, `mark` scores an answer."""

    name: str
    splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    preset: Preset
    options: Options
    read: Read
    mark: Mark

    @property
    def generation(self) -> Generation:
        """How a model is asked."""
        return self.preset.generation

    @property
    def rules(self) -> Mapping[str, Any]:
        """Preset, scoring and language detector."""
        kept = {"preset": self.preset.name, "language": self.options.detector}
        return kept | self.preset.model_dump(mode="json", include={"scoring", "questions", "shots"})

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """All items of a split, or `count` of them drawn by the seed; in the order of the file."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        found = self.read(split)
        if not found:
            raise DataError(f"{self.name}:{split}: no items in {self.options.path or 'the hub cache'}")
        if count is None or count >= len(found):
            return found
        drawn = np.random.default_rng(seed).permutation(len(found))[:count]
        return [found[index] for index in sorted(drawn)]

    def score(self, item: Item, answer: str) -> ItemScore:
        """What an answer is worth."""
        return self.mark(item, answer)


def chosen_preset(task: str, presets: Presets, options: Options) -> Preset:
    """The one of a task's presets that the options ask for."""
    preset = preset_of(task, presets, options.preset)
    return preset if options.scoring is None else preset.model_copy(update={"scoring": options.scoring})


def is_validation(key: str) -> bool:
    """Whether an item of a search set is kept for validation: a fifth, by its id, whatever the order of the file."""
    return zlib.crc32(key.encode()) % 1000 < VALIDATION_SHARE * 1000
