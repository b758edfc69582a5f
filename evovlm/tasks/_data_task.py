"""A task built from a reader and a scorer: the shared part of all tasks on files.

Knows items, presets and splits; reads no files itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from evovlm.system.errors import DataError, RecipeError
from evovlm.tasks.options import Options
from evovlm.tasks.presets import Preset, Presets, preset_of
from evovlm.tasks.protocol import Generation, Item, ItemScore

# A split's items in file order: a list, or an iterator that reads them one by one, so that few need not hold all.
Read = Callable[[str], Iterable[Item]]
Mark = Callable[[Item, str], ItemScore]
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class DataTask:
    """A `Task`: `read` returns a split's items in file order, `mark` scores an answer."""

    name: str
    splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    preset: Preset
    options: Options
    read: Read
    mark: Mark

    @property
    def generation(self) -> Generation:
        """Prompt and generation settings, from the preset."""
        return self.preset.generation

    @property
    def rules(self) -> Mapping[str, Any]:
        """Preset, language detector, number scoring, questions per image and number of shots."""
        kept = {"preset": self.preset.name, "language": self.options.detector}
        return kept | self.preset.model_dump(mode="json", include={"scoring", "questions", "shots"})

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """All items of a split, or a random `count` of them drawn with `seed`; in file order either way.

        With the option `whole_pictures`, pictures are drawn with all their questions, the last one with as many as fit.
        Raises RecipeError for an unknown split and DataError if the split is empty or unreadable.
        """
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        found = self.read(split)
        if count is None:
            found = list(found)
        # An iterator is read twice if items are drawn: for what distinguishes them, and for those that were drawn.
        pictures = [_picture_of(item) if self.options.whole_pictures else None for item in found]
        if not pictures:
            raise DataError(f"{self.name}:{split}: no items in {self.options.path or 'the hub cache'}")
        again = found if isinstance(found, list) else self.read(split)
        if count is None or count >= len(pictures):
            return list(again)
        rng = np.random.default_rng(seed)
        order = _whole_pictures(pictures, rng) if self.options.whole_pictures else rng.permutation(len(pictures))
        drawn = {int(place) for place in order[:count]}
        return [item for place, item in enumerate(again) if place in drawn]

    def score(self, item: Item, answer: str) -> ItemScore:
        """The score of an answer."""
        return self.mark(item, answer)


def _picture_of(item: Item) -> Hashable:
    """What a picture is known by: its file, a hash of its bytes, or what draws it, so that no file is opened."""
    known = item.id if item.image is None else getattr(item.image, "source", item.image)
    return blake2b(known, digest_size=16).digest() if isinstance(known, bytes) else known


def _whole_pictures(items: Iterable[Hashable], rng: np.random.Generator) -> list[int]:
    """The items' places, those of a picture next to each other, the pictures in random order. items: `_picture_of`."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(items):
        places.setdefault(key, []).append(place)
    pictures = list(places.values())
    return [place for number in rng.permutation(len(pictures)) for place in pictures[number]]


def chosen_preset(task: str, presets: Presets, options: Options) -> Preset:
    """The preset selected by the options, with their `scoring` if given. Raises DataError for an unknown preset."""
    preset = preset_of(task, presets, options.preset, options.root)
    return preset if options.scoring is None else preset.model_copy(update={"scoring": options.scoring})


def is_validation(key: str) -> bool:
    """Whether a search set's item goes to validation: a fifth do, chosen by id and so independent of file order."""
    return zlib.crc32(key.encode()) % 1000 < VALIDATION_SHARE * 1000
