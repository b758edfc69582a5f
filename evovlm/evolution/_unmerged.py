"""Rows of the held-out table that merge nothing: the sources, a guesser, and the best source with rules for style.

Knows an evaluator and item sets; no recipes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from evovlm.evaluators.cache import asks_several, way_of_asking
from evovlm.evaluators.evaluation import gathered
from evovlm.evaluators.local import Evaluation, LocalEvaluator, score_answers
from evovlm.evaluators.single_model import answer_source
from evovlm.evolution._held_out import Contestant, failed
from evovlm.evolution._picking import NotPicked, best_of
from evovlm.merging.assembly import Assembly
from evovlm.models.open_model import OpenModel
from evovlm.system.progress import Progress, Watch
from evovlm.tasks import Item
from evovlm.tasks.item_sets import ItemSet
from evovlm.tasks.made_task import MadeTask
from evovlm.tasks.protocol import Restyles

PRIOR_ROW, RESTYLED_ROW = "prior", "restyled"
# Further questions of a split for the guesser where a task generates as many as one likes.
GUESSED_FROM = 5000


class Sources:
    """The unmerged models, asked each item at most once; with the evaluator's cache, also when a study goes on."""

    def __init__(self, evaluator: LocalEvaluator) -> None:
        self._evaluator = evaluator
        self._asked: dict[tuple[str, str], Evaluation] = {}
        self.models = models_of(evaluator.assembly)

    def rows(self, test: ItemSet) -> list[Contestant]:
        """A row per model: the owner sees the images, a language model does not."""
        return [
            Contestant(
                self.name(model),
                "sources",
                lambda progress, model=model: self.answers(model, test, progress),  # type: ignore[misc]
                {"model": model.folder.name},
            )
            for model in self.models
        ]

    def name(self, model: OpenModel) -> str:
        """The model's name in the table. A source may be called `base` beside a base; both keep their rows."""
        assembly = self._evaluator.assembly
        return "base model" if model is assembly.base and model.label in assembly.sources else model.label

    def answers(self, model: OpenModel, items: ItemSet, progress: Progress | None = None) -> Evaluation:
        """A model's answers to a set, as they are."""
        key = self.name(model), items.name
        if key not in self._asked:
            self._asked[key] = self._answer(model, items, progress)
        return self._asked[key]

    def _answer(self, model: OpenModel, items: ItemSet, progress: Progress | None) -> Evaluation:
        evaluator = self._evaluator
        if evaluator.cache is None:
            return answer_source(evaluator, model, items, progress)
        way = way_of_asking(items.task, items.where, several=asks_several(evaluator.assembly.recipe))
        # In place of a recipe's digest; the study is bound to the content of the models' files.
        name = f"source {self.name(model)}"
        known = evaluator.cache.known(way, name, [item.key for item in items])
        missing = items.of(item for item in items if item.key not in known)
        if missing:
            made = answer_source(evaluator, model, missing, progress)
            known |= evaluator.cache.keep(way, name, [item.key for item in missing], made)
        return gathered([known[item.key] for item in items], {})


def models_of(assembly: Assembly) -> list[OpenModel]:
    """The base, if there is one, and the sources."""
    return [*([assembly.base] if assembly.base is not None else []), *assembly.sources.values()]


def prior_row(known: Iterable[ItemSet], test: ItemSet) -> Contestant:
    """A guesser that sees the question's text alone: how much of a score needs neither image nor reasoning.

    known: the recipe's other items; those of the test items' task are used, and more of their split if the task
    generates them. No test item is used. Where the task has rules for style, the guesses are worded by them, because
    references such as bare numbers are not in the style of a right answer.
    """
    task, tested = test.task, {item.id for item in test}
    alike = [items for items in known if items.task.name == task.name]
    others = [item for items in alike for item in items]
    if isinstance(task, MadeTask) and alike:
        others += task.items(alike[0].where.rpartition(":")[2], GUESSED_FROM, 0)
    seen = list({item.id: item for item in others if item.id not in tested}.values())

    def guessed(progress: Progress) -> Evaluation:
        made = guesses(seen, test)
        if isinstance(task, Restyles):
            made = [task.restyle(item, guess) or guess for item, guess in zip(test, made, strict=True)]
        return score_answers(task, test, made)

    return Contestant(
        PRIOR_ROW,
        "controls",
        guessed,
        {"of": f"the most frequent answers to {len(seen):,} other questions"},
        tries=1,
    )


def guesses(seen: Sequence[Item], asked: Sequence[Item]) -> list[str]:
    """The most frequent reference of those with the same question, else of the same skill, else of all.

    Of equally frequent ones the first; "" if there is nothing to guess from.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_skill: dict[str, Counter[str]] = defaultdict(Counter)
    of_all: Counter[str] = Counter()
    for item in seen:
        for counts in (by_text[item.question], by_skill[item.skill], of_all):
            counts[item.references[0]] += 1
    return [_most(by_text.get(item.question) or by_skill.get(item.skill) or of_all) for item in asked]


def _most(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""


def restyles(*sets: ItemSet) -> bool:
    """Whether the tasks of all sets have rules that reword answers to their items."""
    return all(isinstance(one.task, Restyles) and one.task.restyle(one[0], "") is not None for one in sets)


def restyled_row(sources: Sources, test: ItemSet, choice: ItemSet, watch: Watch) -> Contestant:
    """The source that scores best on the choice items when rules reword its answers as the references are worded.

    What a merge scores above it is more than a transfer of style.
    """
    named = {sources.name(model): model for model in sources.models}
    scorers = {
        name: lambda progress, model=model: _restyled(choice, sources.answers(model, choice, progress)).score
        for name, model in named.items()
    }
    try:
        best = best_of(scorers, watch, "restyled")
    except NotPicked as none:
        return failed(RESTYLED_ROW, none.failure)
    return Contestant(
        RESTYLED_ROW,
        "controls",
        lambda progress: _restyled(test, sources.answers(named[best], test, progress)),
        {"source": best},
        chosen_on=choice.name,
        tries=len(named),
    )


def _restyled(items: ItemSet, found: Evaluation) -> Evaluation:
    """The answers, reworded and scored again."""
    task = items.task
    assert isinstance(task, Restyles)
    reworded = [task.restyle(item, answer) or answer for item, answer in zip(items, found.answers, strict=True)]
    return score_answers(task, items, reworded)
