"""Sample questions of a task, and the references for a visitor's question if it matches a sample.

Knows tasks and images; no pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from PIL import Image

from evovlm.system.errors import DataError, UserError
from evovlm.tasks import Item, Task
from evovlm.tasks.zoo_vqa import NAME as ZOO_VQA
from evovlm.zoo.scenes import describe, sample_questions
from evovlm_app.limits import Refusal, read_picture
from evovlm_app.words import Language

SHOWN = 8
MOST_PHOTOGRAPHS = 24


@dataclass(frozen=True)
class Samples:
    """The first held-out items of one task."""

    task: Task
    items: tuple[Item, ...] = field(default=())

    @classmethod
    def of(cls, task: Task, count: int = SHOWN) -> Samples:
        """The first `count` items of the task's test split; none if its data are not on this machine."""
        try:
            return cls(task, tuple(task.items(task.test_splits[0], count, 0)))
        except (UserError, OSError):
            return cls(task)

    @cached_property
    def pictures(self) -> list[Image.Image]:
        """The items' images, in order."""
        return [item.image().convert("RGB") for item in self.items if item.image is not None]

    @property
    def questions_by_picture(self) -> list[str]:
        """The question of each image, in the order of `pictures`."""
        return [item.question for item in self.items if item.image is not None]

    @property
    def questions(self) -> list[str]:
        """The questions without duplicates, in order."""
        return list(dict.fromkeys(item.question for item in self.items))

    def captions(self, language: Language) -> list[str]:
        """A description of each image as alternative text; its question if there is no description."""
        told: dict[str, str] = {}
        if self.task.name == ZOO_VQA:
            asked = sample_questions("test", len(self.items), 0)
            told = {found.id: describe(found.scene, language) for found in asked}
        return [told.get(item.id, item.question) for item in self.items if item.image is not None]

    def references(self, picture: Image.Image | None, question: str) -> tuple[str, ...]:
        """The references of a sample's image and question; empty for anything else."""
        return self._known.get((_digest(picture), question), ())

    @cached_property
    def _known(self) -> dict[tuple[str, str], tuple[str, ...]]:
        found = {}
        for item in self.items:
            picture = item.image().convert("RGB") if item.image is not None else None
            found[_digest(picture), item.question] = item.references
        return found


def read_photographs(folder: Path | None) -> tuple[tuple[Image.Image, str], ...]:
    """The first MOST_PHOTOGRAPHS images of the operator's folder, re-encoded, with their file names.

    Raises DataError if the folder does not exist or has no readable image.
    """
    if folder is None:
        return ()
    if not folder.is_dir():
        raise DataError(f"--photos: {folder} is not a folder; give a folder of images")
    found: list[tuple[Image.Image, str]] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and len(found) < MOST_PHOTOGRAPHS:
            try:
                found.append((read_picture(path), path.stem))
            except Refusal:
                continue
    if not found:
        raise DataError(f"--photos: found no readable image in {folder}; use PNG, JPEG or WebP files")
    return tuple(found)


def visitor_item(question: str, picture: Image.Image | None, references: Sequence[str] = ()) -> Item:
    """A visitor's question as a task item."""
    return Item("visitor", question, tuple(references), None if picture is None else lambda: picture)


def _digest(picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    return sha256(f"{picture.size}".encode() + picture.convert("RGB").tobytes()).hexdigest()
