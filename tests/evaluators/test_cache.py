"""What is cached is not generated again: across candidates, items and restarts; and races go through it."""

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evovlm.evaluators.cache import AnswerCache, CarriedAnswers, way_of_asking
from evovlm.evaluators.evaluation import Evaluation
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.evolution.search_loop import search_raced
from evovlm.recipe.search_settings import Fidelity
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search.race import RaceSettings
from evovlm.study import log as study_log
from evovlm.study.study import Study
from evovlm.system import files
from evovlm.system.errors import RecipeError, StudyError
from evovlm.tasks import Generation, Item, load_task
from evovlm.tasks._images import Picture
from evovlm.tasks.cheaper import Cheaper
from evovlm.tasks.item_sets import ItemSet
from tests.engine_calls import count_answers

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TASK = load_task("zoo-maths")
WAY = way_of_asking(TASK, "zoo-maths:search")
MADE = Evaluation((100.0, 0.0), (True, False), ("8", "答えは9"))
RACE = RaceSettings(first=8, most=0.5)


@pytest.fixture(scope="module")
def plan() -> Plan:
    recipe = read_recipe(RECIPES / "zoo-llm.yaml")
    assert recipe.search is not None
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"population": 6})})
    return plan_evolution(recipe, RECIPES, EvolveSettings(trials=9, items=24, judged=2, race=RACE))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the engine made."""
    return count_answers(monkeypatch)


def test_answers_come_back_as_they_were_kept_and_survive_the_process(tmp_path: Path):
    cache = AnswerCache(tmp_path / "c")
    cache.keep(WAY, "abc", ["one", "two"], MADE)
    cache.close()
    again = AnswerCache(tmp_path / "c")
    assert again.known(WAY, "abc", ["two", "three"]) == {"two": (0.0, False, "答えは9")}
    assert again.known(WAY, "other", ["two"]) == {}
    assert again.known(way_of_asking(load_task("zoo-vqa"), "zoo-vqa:search"), "abc", ["two"]) == {}
    assert len(again) == 2


@dataclass(frozen=True)
class Like:
    """A task of the name of `TASK`, asked and marked as told."""

    generation: Generation = TASK.generation
    rules: Mapping[str, Any] = field(default_factory=lambda: TASK.rules)
    name: str = TASK.name


def test_another_prompt_rule_or_file_is_another_question():
    where = "zoo-maths:search"
    others = [
        way_of_asking(Like(generation=load_task("zoo-vqa").generation), where),  # type: ignore[arg-type]
        way_of_asking(Like(rules={"scoring": "corrected"}), where),  # type: ignore[arg-type]
        way_of_asking(TASK, "zoo-maths@mine.jsonl:search"),
        way_of_asking(Cheaper(TASK, Fidelity(eight_bit=True)), where),
    ]
    assert way_of_asking(Like(), where) == WAY  # type: ignore[arg-type]
    assert WAY.key not in [other.key for other in others]


@pytest.mark.parametrize("carried", [False, True])
def test_answers_that_an_earlier_version_kept_are_found(tmp_path: Path, carried: bool):
    """It named them by task, prompt and decoding alone; what this version keeps comes before them."""
    old = ("zoo-maths-edde91979ab3", "abc", "one", 100.0, True, "8")
    assert WAY.older == old[0]
    cache: Any = CarriedAnswers() if carried else AnswerCache(tmp_path / "c")
    (cache.load if carried else cache.add)([old])
    assert cache.known(WAY, "abc", ["one", "two"]) == {"one": (100.0, True, "8")}
    cache.keep(WAY, "abc", ["one"], Evaluation((0.0,), (False,), ("9",)))
    assert cache.known(WAY, "abc", ["one", "two"]) == {"one": (0.0, False, "9")}


def test_a_file_that_is_no_cache_is_told_or_set_aside(tmp_path: Path):
    content = "not a data base, but long enough to be taken for one" * 50
    (tmp_path / "c").write_text(content)
    with pytest.raises(StudyError, match="not a cache of answers"):
        AnswerCache(tmp_path / "c")
    told: list[str] = []
    cache = AnswerCache.replacing_damaged(tmp_path / "c", told.append)
    assert len(cache) == 0
    assert "renamed to c.damaged" in told[0]
    assert (tmp_path / "c.damaged").read_text() == content


def test_a_cache_with_damaged_pages_or_another_table_is_set_aside(tmp_path: Path):
    cache = AnswerCache(tmp_path / "pages")
    cache.add((WAY.key, "abc", str(number), 0.0, False, "x" * 100) for number in range(1000))
    cache.close()
    content = bytearray((tmp_path / "pages").read_bytes())
    content[4096 * 3 : 4096 * 6] = b"?" * 4096 * 3
    (tmp_path / "pages").write_bytes(content)
    with sqlite3.connect(tmp_path / "table") as base:
        base.execute("create table answers (question text, digest text)")
    base.close()
    for name in ("pages", "table"):
        told: list[str] = []
        again = AnswerCache.replacing_damaged(tmp_path / name, told.append)
        again.keep(WAY, "abc", ["one", "two"], MADE)
        assert len(told) == 1
        assert len(again) == 2


def item(question: str, reference: str = "1", image: Picture | None = None) -> Item:
    return Item("q1", question, (reference,), image)


def test_an_items_content_is_its_question_its_references_and_its_image():
    red, blue = Picture(b"red", "here"), Picture(b"blue", "here")
    different = [item("a"), item("b"), item("a", "2"), item("a", image=red), item("a", image=blue)]
    assert len({one.content for one in different}) == len(different)
    assert item("a", image=red).content == item("a", image=Picture(b"red", "elsewhere")).content
    drawn = [item("a", image=lambda: Image.new("RGB", (2, 2), colour)) for colour in ("red", "blue")]  # type: ignore[arg-type]  # noqa: B023
    assert drawn[0].content != item("a").content
    assert replace(item("a"), skill="sums").content == item("a").content, "a skill changes no score"


@pytest.mark.parametrize("carried", [False, True])
def test_two_questions_of_one_id_do_not_share_their_answers(tmp_path: Path, carried: bool):
    """Not even where two data files are named alike, relative to two folders."""
    cache: Any = CarriedAnswers() if carried else AnswerCache(tmp_path / "c")
    one, other = item("3たす5は？").key, item("3かける5は？").key
    assert one != other
    cache.keep(WAY, "abc", [one], Evaluation((100.0,), (True,), ("8",)))
    assert cache.known(WAY, "abc", [one, other]) == {one: (100.0, True, "8")}
    cache.keep(WAY, "abc", [other], Evaluation((0.0,), (False,), ("8",)))
    assert cache.known(WAY, "abc", [one, other]) == {one: (100.0, True, "8"), other: (0.0, False, "8")}


@pytest.mark.parametrize("carried", [False, True])
def test_answers_that_an_earlier_version_kept_by_id_are_found_but_come_last(tmp_path: Path, carried: bool):
    cache: Any = CarriedAnswers() if carried else AnswerCache(tmp_path / "c")
    key = item("3たす5は？").key
    (cache.load if carried else cache.add)([(WAY.key, "abc", "q1", 100.0, True, "8")])
    assert cache.known(WAY, "abc", [key]) == {key: (100.0, True, "8")}
    cache.keep(WAY, "abc", [key], Evaluation((0.0,), (False,), ("9",)))
    assert cache.known(WAY, "abc", [key]) == {key: (0.0, False, "9")}


def test_where_candidates_are_asked_two_data_sets_the_oldest_keys_are_not_trusted(tmp_path: Path):
    """They name the task and the item's id alone, which may be in both."""
    cache = AnswerCache(tmp_path / "c")
    assert WAY.older is not None
    cache.add([(WAY.older, "abc", "q1", 100.0, True, "8")])
    several = way_of_asking(TASK, "zoo-maths:search", several=True)
    assert cache.known(several, "abc", [item("3たす5は？").key]) == {}


def test_only_items_that_a_candidate_has_not_seen_are_generated(plan: Plan, tmp_path: Path, asked: list[int]):
    plain = LocalEvaluator(plan.assembly, batch=150)
    cached = LocalEvaluator(plan.assembly, batch=150, cache=AnswerCache(tmp_path / "c"))
    items = plan.search_items
    whole = plain.evaluate(plan.recipe, items)
    cached.evaluate(plan.recipe, items[:8])
    cached.evaluate(plan.recipe, items[4:12])
    found = cached.evaluate(plan.recipe, items)
    assert asked == [24, 8, 4, 12]
    assert (found.scores, found.answers, found.exact) == (whole.scores, whole.answers, whole.exact)
    cached.evaluate(plan.recipe, items)
    assert asked == [24, 8, 4, 12]


def test_two_sets_that_use_one_id_for_two_questions_are_told_apart(plan: Plan, tmp_path: Path):
    items = plan.search_items
    renamed = [replace(other, id=item.id) for item, other in zip(items[:4], items[4:8], strict=True)]
    others = ItemSet("objective", "custom-maths@mine.jsonl:search", items.task, tuple(renamed))
    cached = LocalEvaluator(plan.assembly, batch=150, cache=AnswerCache(tmp_path / "c"))
    found = [cached.evaluate(plan.recipe, part) for part in (items[:4], others)]
    plain = LocalEvaluator(plan.assembly, batch=150)
    wanted = [plain.evaluate(plan.recipe, part) for part in (items[:4], items[4:8])]
    assert [(one.answers, one.scores) for one in found] == [(one.answers, one.scores) for one in wanted]
    assert found[0].answers != found[1].answers


def race_in(folder: Path, plan: Plan, trials: int) -> Study:
    study = Study.open(folder, plan.recipe, plan.genes, plan.header(), plan.express, plan.assembly.root)
    cache = AnswerCache(folder / study_log.CACHE)
    evaluator = LocalEvaluator(plan.assembly, batch=150, cache=cache)
    answer = LocalAnswers(evaluator, plan.recipe, plan.search_items)
    search_raced(study, plan.searcher(), answer, len(plan.search_items), RACE, trials, lambda trial: None)
    cache.close()
    return study


def lines(study: Study) -> list[Any]:
    return [trial.model_dump(exclude={"seconds"}) for trial in study.trials]


@pytest.mark.slow
def test_a_raced_study_goes_on_after_a_restart_without_asking_anything_twice(
    plan: Plan, tmp_path: Path, asked: list[int]
):
    whole = race_in(tmp_path / "whole", plan, 9)
    once = sum(asked)
    asked.clear()
    race_in(tmp_path / "cut", plan, 4)
    cut = race_in(tmp_path / "cut", plan, 9)
    assert lines(cut) == lines(whole)
    assert sum(asked) == once
    assert once == len(AnswerCache(tmp_path / "cut" / study_log.CACHE))
    # What a race leaves behind: few items a candidate, centers that nothing drops, the last of them first to be chosen.
    assert all(trial.items in (8, 16) for trial in whole.trials)
    assert [(trial.trial, trial.items) for trial in whole.trials if not trial.told] == [(6, 16)]
    assert next(iter(whole.finalists(3))).trial == 6
    answers = list(files.read_rows(tmp_path / "whole" / study_log.ANSWERS))
    assert {row["id"] for row in answers} <= set(whole.item_ids)


def test_races_refuse_what_they_do_not_serve():
    recipe = read_recipe(RECIPES / "zoo-dfs.yaml")
    with pytest.raises(RecipeError, match="--race: needs"):
        plan_evolution(recipe, RECIPES, EvolveSettings(trials=4, items=8, race=RACE))
    assert recipe.search is not None
    raced = recipe.model_copy(update={"search": recipe.search.model_copy(update={"race": True})})
    with pytest.raises(RecipeError, match=r"^search\.race: needs .* set it to false or give --no-race"):
        plan_evolution(raced, RECIPES, EvolveSettings(trials=4, items=8))


def test_a_race_takes_twice_the_population_unless_told(plan: Plan):
    recipe = read_recipe(RECIPES / "zoo-llm.yaml")
    raced = plan_evolution(recipe, RECIPES, EvolveSettings(trials=4, items=8, judged=2, race=RACE))
    assert raced.recipe.search is not None
    assert raced.recipe.search.population == 2 * (4 + int(3 * math.log(len(raced.genes))))
    assert plan.recipe.search is not None
    assert plan.recipe.search.population == 6


def test_a_race_is_part_of_what_a_study_is(plan: Plan, tmp_path: Path):
    folder = tmp_path / "s"
    Study.open(folder, plan.recipe, plan.genes, plan.header())
    header = {key: value for key, value in plan.header().items() if key != "race"}
    with pytest.raises(StudyError, match="another `race`"):
        Study.open(folder, plan.recipe, plan.genes, header)
