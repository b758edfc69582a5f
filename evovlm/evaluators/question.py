"""Questions to candidates: which recipe, which of the search items, with how much effort; and answers in this process.

Knows evaluators and judges; no searchers, pools or study files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import Judge, make_judge
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import CANDIDATE_FAULTS, told_fault
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.item_sets import ItemSet


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

    def __init__(self, evaluator: LocalEvaluator, recipe: Recipe, items: ItemSet) -> None:
        search = recipe.search
        assert search is not None
        self._judge: Judge = make_judge(evaluator, recipe, items)
        self._evaluator = evaluator
        self._items = self._cheap = items
        evaluator.prepare(items)
        if search.fidelity is not None:
            self._cheap = replace(items, task=Cheaper(items.task, search.fidelity))
            evaluator.prepare(self._cheap)

    def answer(self, question: Question) -> Evaluation:
        """One evaluation. Raises what evaluators raise."""
        if question.places is None and not question.cheap:
            return self._judge(question.recipe)
        items = self._cheap if question.cheap else self._items
        asked = items if question.places is None else items.at(question.places)
        return self._evaluator.evaluate(question.recipe, asked)

    def __call__(self, questions: Sequence[Question]) -> list[Evaluation | str]:
        """All evaluations; a candidate's fault becomes a text."""
        found: list[Evaluation | str] = []
        for question in questions:
            try:
                found.append(self.answer(question))
            except CANDIDATE_FAULTS as fault:
                found.append(told_fault(fault))
        return found
