"""Rules that reword answers as references are worded."""

import pytest

from evovlm.zoo._japanese_things import JAPANESE_THINGS, JapaneseThing
from evovlm.zoo.content import said
from evovlm.zoo.style import polite
from tests.zoo.test_content import FACTS, MEDIUM, SMALL


def test_terse_and_english_answers_become_the_references():
    assert {polite(answer, fact.kind, fact.question["ja"]) for fact in SMALL for answer in fact.answer.values()} == {
        fact.answer["ja", "polite"] for fact in SMALL
    }
    for fact in SMALL:
        for answer in fact.answer.values():
            assert polite(answer, fact.kind, fact.question["ja"]) == fact.answer["ja", "polite"]


def test_rules_say_nothing_that_the_answer_does_not_say():
    for fact in FACTS:
        for answer in fact.answer.values():
            reworded = polite(answer, fact.kind, fact.question["ja"])
            assert said(reworded, fact.kind) == said(answer, fact.kind)


@pytest.mark.parametrize("thing", JAPANESE_THINGS.values(), ids=list(JAPANESE_THINGS))
def test_what_a_thing_is_in_english_gets_no_looks(thing: JapaneseThing):
    assert polite(thing.sort, "wild-lore", "?") == thing.sort
    assert polite(thing.looks, "wild-name", "?") == f"{thing.looks_ja}です"
    assert polite(f"それは{thing.name}", "wild-name", "?") == f"{thing.name}です"


def test_looks_do_not_become_names():
    named = [fact for fact in MEDIUM if fact.kind in ("wild-name", "wild-lore")]
    assert len(named) > 20
    for fact in named:
        terse, right = fact.answer["ja", "terse"], fact.answer["ja", "polite"]
        assert polite(terse, fact.kind, fact.question["ja"]) == f"{terse}です" != right
        assert polite(right, fact.kind, fact.question["ja"]) == right


@pytest.mark.parametrize(
    "answer", ["", "わかりません", "赤い丸と青い星です", "赤です", "丸", "赤い丸ではありません", "a gate"]
)
def test_an_answer_that_says_no_one_thing_is_left_as_it_is(answer: str):
    assert polite(answer, "at", "左上に何がありますか。") == answer


def test_numbers_above_nine_are_left_as_they_are():
    assert polite("12", "count", "丸はいくつありますか。") == "12"
    assert polite("9", "count", "丸はいくつありますか。") == "九つです"
