"""The task interface: items with questions and references, a prompt, and a score for an answer. Knows no models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol, runtime_checkable

from PIL import Image


@dataclass(frozen=True)
class Item:
    """One question. `image` draws or opens the image when called; None for a question without an image.

    `references`: the accepted answers. `skill`: what the question asks for (colour, place, sums), if the data say so;
    a skill profile has one column per skill.
    """

    id: str
    question: str
    references: tuple[str, ...]
    image: Callable[[], Image.Image] | None
    skill: str = ""

    @cached_property
    def content(self) -> str:
        """A hash of question, references and image: 32 hexadecimal digits.

        An image with a method `digest()` is not opened for it; of any other, the pixels are hashed. Raises DataError if
        the image cannot be read.
        """
        text = repr((self.question, tuple(self.references), self.picture))
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def key(self) -> str:
        """What identifies the item in a cache of answers: its content, and its id."""
        return f"{self.content}:{self.id}"

    @cached_property
    def picture(self) -> str:
        """A hash of the image, or "" without one; see `content`."""
        if self.image is None:
            return ""
        digest = getattr(self.image, "digest", None)
        if digest is not None:
            return str(digest())
        image = self.image().convert("RGB")
        return blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class ItemScore:
    """The score of one answer: 0 to 100, higher is better; `exact`: whether it is exactly right.

    `beside`: scores under other rules, by name, also 0 to 100.
    """

    score: float
    exact: bool
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """Prompt and generation settings. `template` contains {question}, and <image> at the image's position.

    An answer is cut before the first `stop` string in it. A `temperature` above 0 samples, seeded by `seed`.
    `chat`: the template is the user's message, and the model's own chat template is applied to it. `base_tile`: a model
    that sees both the whole image and its tiles (LLaVA-NeXT) is given only the whole image. `eight_bit`: matrix
    products in 8-bit floats, where the fast path answers.
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
    eight_bit: bool = field(default=False, repr=False)  # not in the text that keys of cached answers are made of

    @property
    def content(self) -> dict[str, Any]:
        """The settings by name, as files keep them: without `eight_bit` if it is off, so that older files are equal."""
        return {name: value for name, value in vars(self).items() if name != "eight_bit" or value}

    @property
    def asked(self) -> str:
        """A text that differs between settings that may give other answers."""
        return f"{self!r} in 8 bits" if self.eight_bit else repr(self)


class Task(Protocol):
    """A data set with its prompt and its score."""

    @property
    def name(self) -> str:
        """The task's name in recipes."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits. No item is in two splits."""

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits that a search must not use."""

    @property
    def generation(self) -> Generation:
        """Prompt and generation settings."""

    @property
    def rules(self) -> Mapping[str, Any]:
        """Everything else that affects a score (preset, number scoring, language detector, ...), for reports."""

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """At most `count` items of a split (None: all, or the task's default); the same seed gives the same items."""

    def score(self, item: Item, answer: str) -> ItemScore:
        """The score of an answer."""


@runtime_checkable
class JudgesContent(Protocol):
    """A task that can tell whether an answer says the right thing, whatever its style and language."""

    def content(self, item: Item, answer: str) -> bool | None:
        """Whether the answer says what is asked for; None if the task cannot tell."""


@runtime_checkable
class Restyles(Protocol):
    """A task with rules that reword an answer as its references are worded, for a control of the held-out table."""

    def restyle(self, item: Item, answer: str) -> str | None:
        """The answer in the references' style, saying nothing that it did not say; None if the task has no rules."""
