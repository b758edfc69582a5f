"""Japanese word problems: the number right and the reasoning Japanese, as on MGSM-JA. Knows no models."""

from __future__ import annotations

from evovlm.errors import RecipeError
from evovlm.metrics.language import is_japanese
from evovlm.metrics.numbers import extract_number, same_number
from evovlm.tasks.protocol import Generation, Item, ItemScore
from evovlm.zoo.problems import sample_problems
from evovlm.zoo.prompts import LLM_PROMPT, MAX_NEW_TOKENS_MATHS

DEFAULT_ITEMS = 500


class ZooMaths:
    """Word problems of one or two steps; problems of different splits differ by construction."""

    name = "zoo-maths"
    splits = ("search", "validation", "test")
    test_splits = ("test",)
    generation = Generation(LLM_PROMPT, MAX_NEW_TOKENS_MATHS)

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` problems (default 500)."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        problems = sample_problems(split, count or DEFAULT_ITEMS, seed, "ja")  # type: ignore[arg-type]
        return [Item(found.id, found.question, (found.answer,), None) for found in problems]

    def score(self, item: Item, answer: str) -> ItemScore:
        """100 where the last number is right and the answer is Japanese, else 0."""
        right = same_number(extract_number(answer), item.references[0]) and is_japanese(answer)
        return ItemScore(100.0 if right else 0.0, right)
