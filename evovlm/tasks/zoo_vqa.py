"""Japanese questions about rendered scenes: ROUGE-L with the language rule. Knows the zoo's scenes, no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from evovlm.errors import RecipeError
from evovlm.tasks.marking import mark_words
from evovlm.tasks.options import Options, refuse_choices
from evovlm.tasks.protocol import Generation, Item, ItemScore
from evovlm.zoo.prompts import IMAGE_SIZE, MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.render import render
from evovlm.zoo.scenes import sample_questions
from evovlm.zoo.splits import kind_of

DEFAULT_ITEMS = 500


@dataclass(frozen=True)
class ZooVqa:
    """Questions and short polite references; scenes of different splits differ by construction."""

    options: Options = Options()
    name: ClassVar[str] = "zoo-vqa"
    splits: ClassVar[tuple[str, ...]] = ("search", "validation", "test")
    test_splits: ClassVar[tuple[str, ...]] = ("test",)
    generation: ClassVar[Generation] = Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA)

    @classmethod
    def with_options(cls, options: Options) -> Self:
        """The task with the user's choices. Raises DataError for those that it does not have."""
        refuse_choices(cls.name, options)
        return cls(options)

    @property
    def rules(self) -> Mapping[str, Any]:
        """How answers are judged."""
        return {"language": self.options.detector}

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` questions (default 500), each about a scene of its own split."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        return [
            Item(
                found.id, found.question, found.references, partial(render, found.scene, IMAGE_SIZE), kind_of(found.id)
            )
            for found in sample_questions(split, count or DEFAULT_ITEMS, seed, "ja")  # type: ignore[arg-type]
        ]

    def score(self, item: Item, answer: str) -> ItemScore:
        """ROUGE-L, F, 0 to 100, on MeCab tokens; an answer that is not Japanese counts as empty."""
        return mark_words(item, answer, self.options.japanese)
