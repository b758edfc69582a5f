"""Which items ask for what."""

from evovlm.tasks import Item, load_task
from evovlm.tasks.skills import skills_of


def items(*questions: str, skill: str = "") -> list[Item]:
    return [Item(str(number), question, ("x",), None, skill) for number, question in enumerate(questions)]


def test_the_zoos_items_name_their_skills():
    found = skills_of(load_task("zoo-vqa").items("search", 60, 0))
    assert {"at", "colour", "count"} <= set(found)
    assert len({place for places in found.values() for place in places}) >= 50
    sizes = [len(places) for places in found.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_question_words_tell_skills_where_items_do_not():
    found = skills_of(
        items("車は何色ですか。", "犬はどこにいますか。", "皿はいくつありますか。", "空は何色?", "誰がいますか。")
    )
    assert found == {"colour": (0, 3), "count": (2,), "place": (1,), "who": (4,)}


def test_questions_without_such_words_are_told_apart_by_length():
    assert skills_of(items("短い", "これは長い", "短い", "とても長い")) == {
        "long questions": (1, 3),
        "short questions": (0, 2),
    }


def test_a_skill_of_few_items_is_none():
    found = skills_of(items(*["何色"] * 11, *["どこ"] * 9, "いつ"))
    assert set(found) == {"colour", "place"}


def test_items_that_are_all_alike_have_no_skills():
    assert skills_of(items("短い", "短い")) == {}
