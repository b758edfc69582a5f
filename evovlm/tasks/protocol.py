"""What a task is: items with questions and references, a prompt, and a score for an answer. Knows no models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class Item:
    """One question. `image` draws or opens the picture when asked; None where there is none."""

    id: str
    question: str
    references: tuple[str, ...]
    image: Callable[[], Image.Image] | None


@dataclass(frozen=True)
class ItemScore:
    """What an answer is worth: 0 to 100, higher is better, and whether it is exactly right."""

    score: float
    exact: bool


@dataclass(frozen=True)
class Generation:
    """How a model is asked. `template` holds {question}, and <image> where a picture goes.

    An answer ends before the first of the `stop` strings that it holds.
    """

    template: str
    max_new_tokens: int
    num_beams: int = 1
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()


class Task(Protocol):
    """A data set with its prompt and its score."""

    @property
    def name(self) -> str:
        """The name that recipes use."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, disjoint."""

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits that no search may see."""

    @property
    def generation(self) -> Generation:
        """How a model is asked."""

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """At most `count` items of a split; the same for the same seed."""

    def score(self, item: Item, answer: str) -> ItemScore:
        """What an answer is worth."""
