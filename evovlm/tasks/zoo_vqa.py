"""Japanese questions about rendered scenes: ROUGE-L with the language rule. Knows the zoo's scenes, no models."""

from __future__ import annotations

from functools import partial

from evovlm.errors import RecipeError
from evovlm.metrics.rouge import exact_match, rouge_l_ja
from evovlm.tasks.protocol import Generation, Item, ItemScore
from evovlm.zoo.prompts import IMAGE_SIZE, MAX_NEW_TOKENS_VQA, VQA_PROMPT
from evovlm.zoo.render import render
from evovlm.zoo.scenes import sample_questions

DEFAULT_ITEMS = 500


class ZooVqa:
    """Questions and short polite references; scenes of different splits differ by construction."""

    name = "zoo-vqa"
    splits = ("search", "validation", "test")
    test_splits = ("test",)
    generation = Generation(VQA_PROMPT, MAX_NEW_TOKENS_VQA)

    def items(self, split: str, count: int | None, seed: int) -> list[Item]:
        """`count` questions (default 500), each about a scene of its own split."""
        if split not in self.splits:
            raise RecipeError(f"data: {self.name} has no split {split!r}; choose from {list(self.splits)}")
        return [
            Item(found.id, found.question, found.references, partial(render, found.scene, IMAGE_SIZE))
            for found in sample_questions(split, count or DEFAULT_ITEMS, seed, "ja")  # type: ignore[arg-type]
        ]

    def score(self, item: Item, answer: str) -> ItemScore:
        """ROUGE-L, F, 0 to 100, on MeCab tokens; an answer that is not Japanese counts as empty."""
        return ItemScore(rouge_l_ja(answer, item.references), exact_match(answer, item.references))
