"""Rows that merge nothing: a guesser, and the best source with rules for style."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evovlm.evaluators.cache import AnswerCache
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import score_answers
from evovlm.evolution import _unmerged
from evovlm.evolution._unmerged import Sources, guesses, prior_row, restyled_row, restyles
from evovlm.system.progress import Quiet
from evovlm.tasks import Item, load_task
from evovlm.tasks.item_sets import ItemSet, read_item_set


def unheard(done: int, total: int) -> None: ...


def item(question: str, reference: str, skill: str = "") -> Item:
    return Item(f"{question}{reference}{skill}", question, (reference,), None, skill)


def test_the_guesser_says_what_is_most_frequent_for_the_question_the_skill_or_at_all():
    seen = [
        *(item("色は？", "赤", "colour") for _ in range(2)),
        item("色は？", "青", "colour"),
        *(item(f"{n}は？", "一つ", "count") for n in range(4)),
    ]
    asked = [item("色は？", "?", "colour"), item("別の色は？", "?", "colour"), item("数は？", "?", "count")]
    assert guesses(seen, [*asked, item("何？", "?", "other")]) == ["赤", "赤", "一つ", "一つ"]
    assert guesses([], asked[:1]) == [""]


def test_the_guesser_needs_no_picture_and_scores_far_above_nothing():
    """A sceptic measured 55.7 with 12.3 % exact."""
    test = read_item_set("test", "zoo-vqa:test", 500, 0)
    search = read_item_set("search", "zoo-vqa:search", 100, 0)
    row = prior_row([search], test)
    found = row.evaluate(unheard)
    assert isinstance(found, Evaluation)
    assert 50 < found.score < 61
    assert 0.07 < found.exact_share < 0.18
    assert row.tries == 1
    assert "other questions" in row.detail["of"]


def test_the_guesser_is_judged_in_the_references_style():
    test, search = (read_item_set(name, f"zoo-maths:{name}", 300, 0) for name in ("test", "search"))
    found = prior_row([search], test).evaluate(unheard)
    assert isinstance(found, Evaluation)
    assert all(answer.startswith("答えは") for answer in found.answers)
    assert 1 < found.score < 15


def test_the_guesser_never_sees_a_test_item_whatever_the_splits_are_called():
    test, search = read_item_set("test", "zoo-maths:search", 200, 0), read_item_set("search", "zoo-maths:test", 50, 0)
    found = prior_row([search], test).evaluate(unheard)
    assert isinstance(found, Evaluation)
    assert found.exact_share < 0.15
    same = prior_row([read_item_set("search", "zoo-maths:search", 200, 0)], test)
    assert isinstance(same.evaluate(unheard), Evaluation)
    assert same.evaluate(unheard).exact_share < 0.15  # type: ignore[union-attr]


def test_a_source_is_asked_again_by_no_later_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    items = read_item_set("validation", "zoo-vqa:validation", 6, 0)
    models = Models(monkeypatch, {"ja": lambda one: one.references[0]})
    with closing(AnswerCache(tmp_path / "answers.sqlite")) as cache:
        for run in range(2):
            models.sources = Sources(evaluator_with(cache))
            found = models.sources.answers("ja", items)  # type: ignore[arg-type]
            assert found.answers == tuple(one.references[0] for one in items), run
        assert models.asked == [("ja", "validation")]
        more = read_item_set("validation", "zoo-vqa:validation", 8, 0)
        assert Sources(evaluator_with(cache)).answers("ja", more).score == 100  # type: ignore[arg-type]
        assert len(models.asked) == 2


def evaluator_with(cache: AnswerCache | None) -> Any:
    """What `Sources` needs of an evaluator."""
    return SimpleNamespace(assembly=SimpleNamespace(recipe=SimpleNamespace(search=None)), cache=cache)


def test_the_guesser_learns_from_no_other_task():
    maths, vqa = (read_item_set("search", f"{name}:search", 20, 0) for name in ("zoo-maths", "zoo-vqa"))
    of = [prior_row(known, read_item_set("test", "zoo-vqa:test", 8, 0)).detail["of"] for known in ([maths], [vqa])]
    assert of[0] == "the most frequent answers to 0 other questions"
    assert of[1] == "the most frequent answers to 5,000 other questions"


class Models:
    """An evaluator's sources, which give fixed answers; notes who is asked what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Callable[[Item], str]]) -> None:
        self.asked: list[tuple[str, str]] = []

        def answer(evaluator: Any, model: Any, items: ItemSet, progress: Any) -> Evaluation:
            self.asked.append((model, items.name))
            return score_answers(items.task, list(items), [answers[model](one) for one in items])

        monkeypatch.setattr(_unmerged, "answer_source", answer)
        monkeypatch.setattr(_unmerged, "models_of", lambda assembly: list(answers))
        monkeypatch.setattr(Sources, "name", lambda self, model: model)
        self.sources = Sources(evaluator_with(None))


def test_the_best_source_is_chosen_by_its_reworded_answers_on_the_choice_items(monkeypatch: pytest.MonkeyPatch):
    test = read_item_set("test", "zoo-vqa:test", 40, 0)
    choice = read_item_set("validation", "zoo-vqa:validation", 40, 0)

    def terse(one: Item) -> str:
        """Right, and not as the references are worded."""
        return f"たぶん{one.references[0].removesuffix('です')}でしょう"

    models = Models(monkeypatch, {"polite": lambda one: f"{one.skill}です", "terse": terse})
    row = restyled_row(models.sources, test, choice, Quiet())
    assert (row.detail, row.chosen_on, row.tries) == ({"source": "terse"}, "validation", 2)
    assert models.asked == [("polite", "validation"), ("terse", "validation")]
    found = row.evaluate(unheard)
    assert isinstance(found, Evaluation)
    assert found.answers == tuple(one.references[0] for one in test)
    assert (found.score, found.exact_share) == (100, 1)
    models.sources.answers("terse", test)  # type: ignore[arg-type]
    assert models.asked[2:] == [("terse", "test")], "a set is asked once"


def test_only_tasks_with_rules_have_that_row():
    items = read_item_set("test", "zoo-vqa:test", 2, 0)
    other = replace(items, task=load_task("mgsm-ja"))
    assert restyles(items)
    assert not restyles(other)
    assert not restyles(items, other)
