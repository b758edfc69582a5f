"""Questions to candidates: which recipe, which of the search items, with how much effort; and answers in this process.

Knows evaluators and judges; no searchers, pools or study files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import Judge, make_judge
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CANDIDATE_FAULTS
from evovlm.tasks import Item
from evovlm.tasks.cheaper import Cheaper


@dataclass(frozen=True)
class Question:
    """A candidate and the places of the search items that it is asked, None for all; `cheap`: with less effort.

    All items with full effort are judged on all objectives; anything else has the score alone.
    """

    recipe: Recipe
    places: tuple[int, ...] | None = None
    cheap: bool = False


# Evaluations in the order of the questions; a text tells why there is none.
AnswerAll = Callable[[Sequence[Question]], list[Evaluation | str]]


class LocalAnswers:
    """Questions answered one after another by one evaluator."""

    def __init__(self, evaluator: LocalEvaluator, recipe: Recipe, items: Sequence[Item]) -> None:
        search = recipe.search
        assert search is not None
        self._items = list(items)
        self._judge: Judge = make_judge(evaluator, recipe, items)
        self._evaluator = evaluator
        self._cheap = evaluator
        evaluator.prepare(self._items)
        if search.fidelity is not None:
            self._cheap = evaluator.beside(Cheaper(evaluator.task, search.fidelity))
            self._cheap.prepare(self._items)

    def answer(self, question: Question) -> Evaluation:
        """One evaluation. Raises what evaluators raise."""
        if question.places is None and not question.cheap:
            return self._judge(question.recipe)
        places = range(len(self._items)) if question.places is None else question.places
        evaluator = self._cheap if question.cheap else self._evaluator
        return evaluator.evaluate(question.recipe, [self._items[place] for place in places])

    def __call__(self, questions: Sequence[Question]) -> list[Evaluation | str]:
        """All evaluations; a candidate's fault becomes a text."""
        found: list[Evaluation | str] = []
        for question in questions:
            try:
                found.append(self.answer(question))
            except CANDIDATE_FAULTS as fault:
                found.append(f"{type(fault).__name__}: {fault}")
        return found
