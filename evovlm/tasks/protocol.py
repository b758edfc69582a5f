"""What a task is: items with questions and references, a prompt, and a score for an answer. Knows no models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True)
class Item:
    """One question. `image` draws or opens the picture when asked; None where there is none.

    `skill`: what it asks for (colour, place, sums), where the data tell; items of one skill make a column of a profile.
    """

    id: str
    question: str
    references: tuple[str, ...]
    image: Callable[[], Image.Image] | None
    skill: str = ""


@dataclass(frozen=True)
class ItemScore:
    """What an answer is worth: 0 to 100, higher is better, and whether it is exactly right.

    `beside`: what other rules would give it, by name, 0 to 100 too.
    """

    score: float
    exact: bool
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """How a model is asked. `template` holds {question}, and <image> where a picture goes.

    An answer ends before the first of the `stop` strings that it holds. `temperature` above 0 samples, by `seed`.
    `chat`: the template is what a user says, and the model's own chat template goes around it. `base_tile`: a model
    that sees a picture whole and in tiles (LLaVA-NeXT) is shown it whole alone.
    """

    template: str
    max_new_tokens: int
    num_beams: int = 1
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    chat: bool = False
    base_tile: bool = False


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

    @property
    def rules(self) -> Mapping[str, Any]:
        """What else decides a score: preset, number scoring, language detector, and the like. For reports."""

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """At most `count` items of a split; the same for the same seed."""

    def score(self, item: Item, answer: str) -> ItemScore:
        """What an answer is worth."""
