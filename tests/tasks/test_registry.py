import pytest

from evovlm.errors import RecipeError
from evovlm.tasks import TASKS, load_task, parse_split


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_its_splits_apart_and_says_which_are_tests(name: str):
    task = load_task(name)
    assert task.name == name
    assert set(task.test_splits) < set(task.splits)
    seen: set[str] = set()
    for split in task.splits:
        ids = {item.id for item in task.items(split, 40, 0)}
        assert len(ids) == 40
        assert not ids & seen
        seen |= ids


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_alone_decides_the_items(name: str):
    task = load_task(name)
    first, again, other = (task.items("search", 20, seed) for seed in (1, 1, 2))
    key = [(item.id, item.question, item.references) for item in first]
    assert [(item.id, item.question, item.references) for item in again] == key
    assert [(item.id, item.question, item.references) for item in other] != key


@pytest.mark.parametrize("name", TASKS)
def test_a_reference_is_its_own_best_score(name: str):
    task = load_task(name)
    for item in task.items("validation", 20, 0):
        answer = item.references[0] if item.image else f"答えは{item.references[0]}個です"
        assert task.score(item, answer).score == 100.0
        assert task.score(item, answer).exact
        assert task.score(item, "").score == 0.0


@pytest.mark.parametrize("name", TASKS)
def test_an_unknown_split_is_told_the_choices(name: str):
    with pytest.raises(RecipeError, match="search"):
        load_task(name).items("train", 1, 0)


def test_a_split_is_named_after_its_task():
    task, split = parse_split("zoo-vqa:validation")
    assert (task.name, split) == ("zoo-vqa", "validation")


@pytest.mark.parametrize("where", ["zoo-vqa", "zoo-vqa:train", "zoo-vqa:", "zoo:test", ""])
def test_what_names_no_split_is_refused_with_the_choices(where: str):
    with pytest.raises(RecipeError, match="choose from"):
        parse_split(where)
