"""Further objectives of a search: their data are found as the recipe's are, and they choose no winner."""

import json
import shutil
from pathlib import Path

import datasets
import pytest

from evovlm.cli.console import OUT
from evovlm.cli.evolve import _print_result
from evovlm.evaluators.objectives import objective_items
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe, write_recipe
from evovlm.report import write_report
from evovlm.study.log import read_trials
from evovlm.tasks import Options, load_task
from tests.command import Companion, Done, here
from tests.evolution.small_studies import MADE, evolve
from tests.hub_cache import data_repository
from tests.tasks.hub_server import hub_of


def with_objectives(recipe: Recipe, *names: str) -> Recipe:
    assert recipe.search is not None
    change = {"algorithm": "nsga2", "population": 4, "objectives": names}
    return recipe.model_copy(update={"search": recipe.search.model_copy(update=change)})


@pytest.mark.slow
def test_the_data_of_an_objective_are_fetched_only_if_the_user_allows_it(tmp_path: Path):
    text, number = datasets.Value("string"), datasets.Value("int64")
    choices = {f"choice{n}": f"語{n}" for n in range(5)}
    rows = [{"q_id": n, "question": f"何{n}？", "label": n % 5} | choices for n in range(60)]
    shape = datasets.Features({"q_id": number, "question": text, "label": number} | dict.fromkeys(choices, text))
    data_repository(tmp_path / "hub", "sbintuitions/JCommonsenseQA", {"train": (rows, shape)})
    place = Path(shutil.copytree(MADE, tmp_path / "made", ignore=shutil.ignore_patterns("studies")))
    recipe = with_objectives(read_recipe(place / "one-stage.yaml"), "jcommonsenseqa:search")
    write_recipe(recipe, place / "several.yaml")
    words = ("evolve", "several.yaml", "--out", "s", "--items", "4", "--dry-run")
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    with (
        hub_of(tmp_path / "hub") as (address, asked),
        Companion(place, here() | home | {"HF_ENDPOINT": address}) as other,
    ):

        def run(*more: str) -> Done:
            return other.evovlm(*words, *more)

        refused = run()
        assert refused.returncode == 2
        assert "--download" in refused.stderr
        assert asked == []
        fetched = run("--download")
        assert fetched.returncode == 0, fetched.stderr
        assert asked
        count = len(asked)
        cached = run()
        assert cached.returncode == 0, cached.stderr
        assert len(asked) == count


@pytest.mark.parametrize("name", ["latency", "custom-maths@data/sums.jsonl:search"])
def test_a_tie_in_the_score_is_told_beside_another_objective(place: Path, name: str):
    path = place / "data/sums.jsonl"
    rows = [json.loads(row) | {"reference": "123456"} for row in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    recipe = with_objectives(read_recipe(place / "one-stage.yaml"), name)
    with OUT.capture() as capture:
        result = evolve(place, "t", recipe, trials=4)
        _print_result(place / "t", result, write_report(place / "t"))
    assert all(len(trial.values) == 2 for trial in read_trials(place / "t"))
    assert result.selection is not None
    assert result.selection.tied == 4
    sentence = "all 4 scored 0.00 on the search items, so only the other objectives may tell them apart"
    shown = " ".join(capture.get().split())
    assert sentence in shown
    assert "Winner:" not in shown
    assert sentence in (place / "t/report.html").read_text(encoding="utf-8")


def test_an_objective_of_the_searchs_task_is_asked_with_its_preset_and_another_task_with_its_own():
    names = ("custom-maths@data/sums.jsonl:search", "zoo-maths:search")
    recipe = with_objectives(read_recipe(MADE / "one-stage.yaml"), *names)
    found = [items.task.generation for items in objective_items(recipe, MADE, 2, download=False).values()]
    own = load_task("custom-maths", Options(preset="plain", path=MADE / "data/sums.jsonl"))
    assert found == [own.generation, load_task("zoo-maths").generation]
    assert own.generation != load_task("custom-maths").generation
