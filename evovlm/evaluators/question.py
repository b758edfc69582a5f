"""Questions to candidates (recipe, search items, fidelity), and evaluating them in this process.

Knows evaluators and judges; no searchers, pools or study files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evovlm.engines.eight_bit import why_not_eight_bit
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import Judge, make_judge
from evovlm.recipe.schema import Recipe
from evovlm.recipe.search_settings import Fidelity
from evovlm.system.errors import RecipeError
from evovlm.system.faults import failure_of
from evovlm.system.progress import Progress
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


class AnswerAll(Protocol):
    """Answers questions to candidates, wherever they run."""

    def __call__(self, questions: Sequence[Question], progress: Progress | None = None) -> list[Evaluation | str]:
        """Return evaluations in the order of the questions; a text gives the reason if one failed.

        `progress` is called with the number of answers so far and of all; not for those that were known.
        """


class LocalAnswers:
    """Evaluates questions one after another, with one evaluator in this process.

    `objectives`: see `make_judge`. Raises RecipeError if the recipe wants 8-bit products and the engine has none; where
    evovlm chose them and `tell` is given, that is called with a sentence instead, and cheap answers do without.
    """

    def __init__(
        self,
        evaluator: LocalEvaluator,
        recipe: Recipe,
        items: ItemSet,
        objectives: Mapping[str, ItemSet] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        search = recipe.search
        assert search is not None
        self._judge: Judge = make_judge(evaluator, recipe, items, objectives)
        self._evaluator = evaluator
        self._items = self._cheap = items
        evaluator.prepare(items)
        if search.fidelity is not None:
            self._cheap = _cheap_items(evaluator, items, search.fidelity, tell)

    def answer(self, question: Question, progress: Progress | None = None) -> Evaluation:
        """Return one evaluation. Raises the same errors as `LocalEvaluator.evaluate`, and those of `Judge`.

        `progress`: see `LocalEvaluator.evaluate`; it is not called if all objectives are asked.
        """
        if question.places is None and not question.cheap:
            return self._judge(question.recipe)
        items = self._cheap if question.cheap else self._items
        asked = items if question.places is None else items.at(question.places)
        return self._evaluator.evaluate(question.recipe, asked, progress)

    def __call__(self, questions: Sequence[Question], progress: Progress | None = None) -> list[Evaluation | str]:
        """See `AnswerAll`. Raises what `failure_of` raises."""
        found: list[Evaluation | str] = []
        sizes = [len(self._items) if question.places is None else len(question.places) for question in questions]
        for place, question in enumerate(questions):
            try:
                found.append(self.answer(question, after(progress, sum(sizes[:place]), sizes[place], sum(sizes))))
            except Exception as fault:
                found.append(failure_of(fault))
        return found


def after(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """The progress of one question of several. before: answers to those before it; size: its own; total: of all.

    Those of its own that need not be asked count as answered.
    """
    if progress is None:
        return None
    return lambda answered, asked: progress(before + size - asked + answered, total)


def _cheap_items(
    evaluator: LocalEvaluator, items: ItemSet, fidelity: Fidelity, tell: Callable[[str], None] | None
) -> ItemSet:
    """The items at the lower fidelity, prepared."""
    cheap = replace(items, task=Cheaper(items.task, fidelity))
    prepared = evaluator.prepare(cheap)
    why = why_not_eight_bit(evaluator.engine, prepared) if fidelity.eight_bit else None
    if why is None:
        return cheap
    if not fidelity.auto or tell is None:
        step = "give `base_tile: true` instead of `auto`" if fidelity.auto else "remove it, or give `base_tile: true`"
        raise RecipeError(f"search.fidelity.eight_bit: {why}; {step}, or leave `fidelity` out")
    tell(f"search.fidelity: auto: cheap answers do without 8-bit products: {why}")
    return _cheap_items(evaluator, items, fidelity.model_copy(update={"eight_bit": False}), tell)
