"""Japanese word problems: the number right and the reasoning Japanese, as on MGSM-JA. Knows no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from evovlm.errors import RecipeError
from evovlm.tasks.marking import mark_number
from evovlm.tasks.options import Options, refuse_choices
from evovlm.tasks.protocol import Generation, Item, ItemScore
from evovlm.zoo.problems import sample_problems
from evovlm.zoo.prompts import LLM_PROMPT, MAX_NEW_TOKENS_MATHS
from evovlm.zoo.splits import kind_of

DEFAULT_ITEMS = 500


@dataclass(frozen=True)
class ZooMaths:
    """Word problems of one or two steps; problems of different splits differ by construction."""

    options: Options = Options()
    name: ClassVar[str] = "zoo-maths"
    splits: ClassVar[tuple[str, ...]] = ("search", "validation", "test")
    test_splits: ClassVar[tuple[str, ...]] = ("test",)
    generation: ClassVar[Generation] = Generation(LLM_PROMPT, MAX_NEW_TOKENS_MATHS)

    @classmethod
    def with_options(cls, options: Options) -> Self:
        """The task with the user's choices. Raises DataError for those that it does not have."""
        refuse_choices(cls.name, options)
        return cls(options)

    @property
    def rules(self) -> Mapping[str, Any]:
        """How answers are judged."""
        return {"scoring": self.options.scoring or "corrected", "language": self.options.detector}

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` problems (default 500)."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        problems = sample_problems(split, count or DEFAULT_ITEMS, seed, "ja")  # type: ignore[arg-type]
        return [Item(found.id, found.question, (found.answer,), None, kind_of(found.id)) for found in problems]

    def score(self, item: Item, answer: str) -> ItemScore:
        """100 where the last number is right and the answer is Japanese, else 0."""
        return mark_number(item, answer, self.options.japanese, self.options.scoring or "corrected")
