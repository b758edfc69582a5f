"""Questions to candidates (recipe, search items, fidelity), and evaluating them in this process.

Knows evaluators and judges; no searchers, pools or study files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import Judge, make_judge
from evovlm.recipe.schema import Recipe
from evovlm.system.faults import failure_of
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.item_sets import ItemSet


@dataclass(frozen=True)
class Question:
    """A candidate, and the indices of the search items that it is asked (None: all). `cheap`: at the lower fidelity.

    All items at full fidelity are judged on all objectives; any other question gives only the score.
    """

    recipe: Recipe
    places: tuple[int, ...] | None = None
    cheap: bool = False


# Returns evaluations in the order of the questions; a text gives the reason if one failed.
AnswerAll = Callable[[Sequence[Question]], list[Evaluation | str]]


class LocalAnswers:
    """Evaluates questions one after another, with one evaluator in this process. `objectives`: see `make_judge`."""

    def __init__(
        self,
        evaluator: LocalEvaluator,
        recipe: Recipe,
        items: ItemSet,
        objectives: Mapping[str, ItemSet] | None = None,
    ) -> None:
        search = recipe.search
        assert search is not None
        self._judge: Judge = make_judge(evaluator, recipe, items, objectives)
        self._evaluator = evaluator
        self._items = self._cheap = items
        evaluator.prepare(items)
        if search.fidelity is not None:
            self._cheap = replace(items, task=Cheaper(items.task, search.fidelity))
            evaluator.prepare(self._cheap)

    def answer(self, question: Question) -> Evaluation:
        """Return one evaluation. Raises the same errors as `LocalEvaluator.evaluate`, and those of `Judge`."""
        if question.places is None and not question.cheap:
            return self._judge(question.recipe)
        items = self._cheap if question.cheap else self._items
        asked = items if question.places is None else items.at(question.places)
        return self._evaluator.evaluate(question.recipe, asked)

    def __call__(self, questions: Sequence[Question]) -> list[Evaluation | str]:
        """Return all evaluations; if a candidate fails, its failure as text. Raises what `failure_of` raises."""
        found: list[Evaluation | str] = []
        for question in questions:
            try:
                found.append(self.answer(question))
            except Exception as fault:
                found.append(failure_of(fault))
        return found
