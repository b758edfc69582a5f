"""The local evaluator: merge a candidate into the resident model, let it answer, score the answers.

Knows one assembly, one engine, one task; no searchers and no study folders.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch

from evovlm.assembly import Assembly, assemble
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared
from evovlm.recipe import Recipe
from evovlm.resident import ResidentMerger
from evovlm.tasks import Item, Task

OnHalved = Callable[[int], None]


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to a set of items, in item order, and what they are worth (0 to 100)."""

    scores: tuple[float, ...]
    exact: tuple[bool, ...]
    answers: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    values: tuple[float, ...] = ()  # where there are several objectives: the score, then the others

    @property
    def score(self) -> float:
        """The mean score."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def spread(self) -> float:
        """Standard error of the mean score."""
        if len(self.scores) < 2:
            return 0.0
        return float(np.std(self.scores, ddof=1) / math.sqrt(len(self.scores)))

    @property
    def exact_share(self) -> float:
        """The share of exact answers, 0 to 1."""
        return sum(self.exact) / len(self.exact)


def score_answers(task: Task, items: Sequence[Item], answers: Sequence[str]) -> Evaluation:
    """Score answers against their items, in order."""
    scored = [task.score(item, answer) for item, answer in zip(items, answers, strict=True)]
    return Evaluation(
        scores=tuple(score.score for score in scored),
        exact=tuple(score.exact for score in scored),
        answers=tuple(answers),
    )


def answer_telling(engine: Engine, prepared: Prepared, on_halved: OnHalved | None) -> list[str]:
    """The answers; `on_halved` hears each batch that had to be halved, also where the answering fails later."""
    before = len(prepared.halved)
    try:
        return engine.answer(prepared)
    finally:
        if on_halved is not None:
            for rows in prepared.halved[before:]:
                on_halved(rows)


class LocalEvaluator:
    """One resident model on one device, which every candidate is merged into.

    `on_halved` hears the size of each batch that did not fit into memory and was halved.
    """

    def __init__(
        self,
        assembly: Assembly,
        task: Task,
        *,
        batch: int,
        device: str = "cpu",
        threads: int | None = None,
        on_halved: OnHalved | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.assembly = assembly
        self.task = task
        self.batch = batch
        self.on_halved = on_halved
        # On a CPU the merged weights, rounded to the recipe's dtype, are computed with in float32.
        dtype = torch.float32 if device == "cpu" else assembly.dtype
        self.engine = self._load(device, dtype)
        self._sets: dict[tuple[str, ...], Prepared] = {}

    @classmethod
    def from_recipe(
        cls, recipe: Recipe, root: Path, task: Task, *, batch: int, device: str = "cpu", download: bool = False
    ) -> LocalEvaluator:
        """Open the recipe's models and load the resident one."""
        return cls(assemble(recipe, root, download=download), task, batch=batch, device=device)

    def beside(self, task: Task) -> Self:
        """An evaluator of another task on the same resident model."""
        other = copy.copy(self)
        other.task, other._sets = task, {}
        return other

    def _load(self, device: str, dtype: torch.dtype) -> Engine:
        engine = Engine.load(self.assembly.owner.folder, device=device, dtype=dtype)
        self._merger = ResidentMerger(self.assembly, engine.tower)
        return engine

    def _make(self, recipe: Recipe) -> None:
        """Turn the resident model into the candidate."""
        self._merger.merge(recipe)

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Tokens and vision features of a set of items: made once, serving every candidate."""
        key = tuple(item.id for item in items)
        if key not in self._sets:
            self._sets[key] = self.engine.prepare(items, self.task.generation, self.batch)
        return self._sets[key]

    def evaluate(self, recipe: Recipe, items: Sequence[Item]) -> Evaluation:
        """Merge, answer, score.

        Raises FloatingPointError for weights or logits that are not finite, ValueError where every answer is
        empty, MemoryError or torch.OutOfMemoryError where even the smallest batch does not fit.
        """
        prepared = self.prepare(items)
        started = time.perf_counter()
        self._make(recipe)
        merged = time.perf_counter()
        answers = answer_telling(self.engine, prepared, self.on_halved)
        answered = time.perf_counter()
        if not any(answers):
            raise ValueError("every answer is empty")
        evaluation = score_answers(self.task, items, answers)
        seconds = {
            "merge": round(merged - started, 4),
            "answer": round(answered - merged, 4),
            "score": round(time.perf_counter() - answered, 4),
        }
        return Evaluation(evaluation.scores, evaluation.exact, evaluation.answers, seconds)
