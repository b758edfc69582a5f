import pytest

from evovlm.recipe.where import split_where
from evovlm.system.errors import DataError, RecipeError
from evovlm.tasks import TASKS, Options, TaskRow, load_preset, load_task, parse_split, presets_of, register
from evovlm.tasks.made_task import MadeTask

# These make their own items; the others read data and have tests of their own.
ZOO = sorted(name for name in TASKS if isinstance(load_task(name), MadeTask))


@pytest.mark.parametrize("name", ZOO)
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


@pytest.mark.parametrize("name", ZOO)
def test_the_seed_alone_decides_the_items(name: str):
    task = load_task(name)
    first, again, other = (task.items("search", 20, seed) for seed in (1, 1, 2))
    key = [(item.id, item.question, item.references) for item in first]
    assert [(item.id, item.question, item.references) for item in again] == key
    assert [(item.id, item.question, item.references) for item in other] != key


@pytest.mark.parametrize("name", ZOO)
def test_a_reference_is_its_own_best_score(name: str):
    task = load_task(name)
    for item in task.items("validation", 20, 0):
        answer = item.references[0] if item.image else f"答えは{item.references[0]}個です"
        assert task.score(item, answer).score == 100.0
        assert task.score(item, answer).exact
        assert task.score(item, "").score == 0.0


@pytest.mark.parametrize("name", ZOO)
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


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        ("mgsm-ja:test", ("mgsm-ja", None, "test")),
        ("mgsm-ja@data/mgsm:test", ("mgsm-ja", "data/mgsm", "test")),
        ("custom-vqa@C:/mine/a.jsonl:search", ("custom-vqa", "C:/mine/a.jsonl", "search")),
    ],
)
def test_a_split_may_name_where_its_data_lies(where: str, parts: tuple[str, str | None, str]):
    assert split_where(where) == parts


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(ZOO)))
def test_every_task_says_how_it_asks_and_scores_without_any_data(name: str):
    task = load_task(name)
    assert task.name == name
    assert "{question}" in task.generation.template
    assert set(task.test_splits) <= set(task.splits)
    assert task.rules["language"] == "script rule"


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(ZOO)))
def test_data_that_is_nowhere_names_the_next_step(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = load_task(name)
    with pytest.raises(DataError, match=r"@FOLDER|@FILE|@PATH"):
        task.items(task.splits[0], None, 0)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_takes_the_presets_of_its_row_and_no_others(name: str):
    for preset in presets_of(name):
        if not load_preset(name, preset).shots:  # solved examples are read from data
            assert load_task(name, Options(preset=preset)).rules["preset"] == preset
    with pytest.raises(DataError, match="preset"):
        load_task(name, Options(preset="no such preset"))


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="there is a task 'zoo-vqa' already"):
        register("zoo-vqa", TaskRow(lambda options: load_task("zoo-vqa")))


def test_the_zoo_takes_no_data_of_others():
    with pytest.raises(DataError, match="takes no preset"):
        load_task("zoo-vqa", Options(preset="greedy"))
