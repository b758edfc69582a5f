"""A study whose validation and test items are of another task than its search's: each set is marked by its own."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.hf import Engine
from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, Plan, plan_evolution
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Data
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.result import Result
from evovlm.system import files
from evovlm.tasks import load_task
from evovlm.tasks.item_sets import ItemSet, ItemSets

pytestmark = pytest.mark.slow  # runs whole studies

RECIPES = Path(__file__).parent.parent.parent / "recipes"
DATA = Data(
    search="custom-maths@search.jsonl:search",
    validation="custom-vqa@validation.jsonl:validation",
    test="custom-vqa@test.jsonl:test",
    preset="plain",
)


class Silent:
    def phase(self, name: str, total: int) -> None: ...

    def step(self, text: str, **figures: float | None) -> None: ...


def plan_in(folder: Path) -> Plan:
    recipe = read_recipe(RECIPES / "zoo-llm.yaml").model_copy(update={"data": DATA})
    return plan_evolution(recipe, folder, EvolveSettings(trials=2, items=6, judged=8))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ItemSets, Result]:
    """Sums to search on, marked right or wrong; questions whose answers are words to be chosen and judged on."""
    folder = tmp_path_factory.mktemp("mixed")
    for split in ("search", "validation", "test"):
        rows = [
            {"id": item.id, "question": item.question, "reference": f"答えは{item.references[0]}個です"}
            for item in load_task("zoo-maths").items(split, 12, 0)
        ]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    plan = plan_in(folder)
    return folder / "study", plan.sets, evolve(plan, folder / "study", Silent())


def test_every_row_of_the_held_out_table_is_marked_by_the_tests_task(judged: tuple[Path, ItemSets, Result]):
    folder, sets, result = judged
    items = {item.id: item for item in sets.test}
    rows = list(files.read_rows(folder / study_log.HELD_OUT_ANSWERS))
    models = {row["model"] for row in rows}
    assert models == {*result.held_out.sources, *result.held_out.controls, "evolved"}
    for row in rows:
        mark = sets.test.task.score(items[row["id"]], row["answer"])
        assert (row["score"], row["exact"]) == (mark.score, mark.exact)
    # By the search's rules the same answers would be right or wrong, nothing between.
    assert {sets.search.task.score(items[row["id"]], row["answer"]).score for row in rows} <= {0.0, 100.0}
    assert any(0 < row["score"] < 100 for row in rows)


def test_a_source_is_asked_in_the_words_of_the_tests_task(judged: tuple[Path, ItemSets, Result]):
    folder, sets, _ = judged
    engine = Engine.load(open_model("ja", "zoo:ja", None, folder).folder, device="cpu")
    answers = engine.answer(engine.prepare(sets.test, sets.test.task.generation, 150))
    stored = [row["answer"] for row in files.read_rows(folder / study_log.HELD_OUT_ANSWERS) if row["model"] == "ja"]
    assert stored == answers


def test_the_search_is_marked_by_its_own_task_and_the_choice_by_the_validations(
    judged: tuple[Path, ItemSets, Result],
):
    folder, sets, result = judged
    with sqlite3.connect(folder / study_log.CACHE) as base:
        rows: list[Any] = list(base.execute("select question, digest, item, score, answer from answers"))
    assert sets.validation is not None
    tasks = {item.key: (found.task, item) for found in (sets.search, sets.validation, sets.test) for item in found}
    for way, _, key, score, answer in rows:
        task, item = tasks[key]
        assert way.startswith(f"{task.name}-")
        assert score == task.score(item, answer).score

    def mean(digest: str, part: ItemSet) -> float:
        own = {item.key for item in part}
        scores = [score for _, asked, key, score, _ in rows if asked == digest and key in own]
        assert len(scores) == len(part)
        return sum(scores) / len(scores)

    assert result.selection is not None
    assert result.selection.choice_score == pytest.approx(mean(result.digest, sets.validation))
    for trial in study_log.read_trials(folder):
        assert trial.score == pytest.approx(mean(trial.digest, sets.search))


def test_a_study_that_an_earlier_version_marked_by_the_searchs_rules_is_judged_again(
    judged: tuple[Path, ItemSets, Result], tmp_path: Path
):
    """Its rows bore no task in their keys, and its result did not say by whose rules it was marked."""
    folder, _, result = judged
    old = tmp_path / "study"
    shutil.copytree(folder, old)
    content = result.content()
    assert content["data"].pop("test_task") == "custom-vqa"
    files.write_json(old / study_log.RESULT, content | {"seed": 77})
    path = old / study_log.HELD_OUT_ANSWERS
    rows = [
        row | {"key": row["key"].removesuffix(" task=custom-vqa"), "score": 100.0, "answer": "8"}
        for row in files.read_rows(path)
    ]
    path.unlink()
    files.append_rows(path, rows)
    again = evolve(plan_in(folder.parent), old, Silent())
    assert (again.held_out, again.seed) == (result.held_out, 0)
    assert evolve(plan_in(folder.parent), old, Silent()) == again
