"""Japanese questions about the medium zoo's scenes: what every language names, and what Japanese alone names.

Knows the medium zoo's scenes, no models. An item's id holds its kind, so that scores can be told by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from evovlm.errors import RecipeError
from evovlm.tasks.marking import mark_words
from evovlm.tasks.options import Options, refuse_choices
from evovlm.tasks.protocol import Generation, Item, ItemScore
from evovlm.zoo.medium.questions import PLAIN, WILD, sample_questions
from evovlm.zoo.medium.render import render
from evovlm.zoo.prompts import MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.splits import kind_of

DEFAULT_ITEMS = 500


@dataclass(frozen=True)
class ZooMedium:
    """Questions of some kinds and short polite references; scenes of different splits differ by construction."""

    name: str
    kinds: tuple[str, ...]
    options: Options = Options()
    splits: ClassVar[tuple[str, ...]] = ("search", "validation", "test")
    test_splits: ClassVar[tuple[str, ...]] = ("test",)
    generation: ClassVar[Generation] = Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA)

    @property
    def rules(self) -> Mapping[str, Any]:
        """How answers are judged."""
        return {"language": self.options.detector}

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` questions (default 500) about scenes of the split."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        asked = sample_questions(split, count or DEFAULT_ITEMS, seed, self.kinds)  # type: ignore[arg-type]
        return [
            Item(found.id, found.question, found.references, partial(render, found.scene), kind_of(found.id))
            for found in asked
        ]

    def score(self, item: Item, answer: str) -> ItemScore:
        """ROUGE-L, F, 0 to 100, on MeCab tokens; an answer that is not Japanese counts as empty."""
        return mark_words(item, answer, self.options.japanese)


def zoo_medium_vqa(options: Options) -> ZooMedium:
    """Places, colours, counts to nine, overlaps, written cards. Raises DataError for choices that it does not have."""
    return _task("zoo-medium-vqa", PLAIN, options)


def zoo_medium_wild(options: Options) -> ZooMedium:
    """Japanese things by their names and lore. Raises DataError for choices that it does not have."""
    return _task("zoo-medium-wild", WILD, options)


def _task(name: str, kinds: tuple[str, ...], options: Options) -> ZooMedium:
    refuse_choices(name, options)
    return ZooMedium(name, kinds, options)
