"""What `import evovlm` gives: five names, loaded when they are used, each with an example that runs."""

import doctest
import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import evovlm
from evovlm import Recipe, evaluate, evolve, merge, suggest
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe.schema import Recipe as Schema
from evovlm.system.errors import CheckpointError, RecipeError

ROOT = Path(__file__).parent.parent
NAMES = ("Recipe", "merge", "evolve", "evaluate", "suggest")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_that_takes_time():
    plain = loaded_by("import importlib, typing")
    assert loaded_by("import evovlm; evovlm.__version__; dir(evovlm)") - plain <= {"evovlm", "__future__"}


def test_a_recipe_is_made_and_a_function_is_named_without_torch():
    loaded = loaded_by("from evovlm import Recipe, merge, evolve, evaluate, suggest")
    assert "evovlm" in loaded
    assert not loaded & {"torch", "transformers", "pandas", "scipy"}


def test_searchers_are_listed_without_the_libraries_that_run_them():
    users = "evovlm.search, evovlm.search.race, evovlm.system.statistics, evovlm.evaluators._audit"
    loaded = loaded_by(f"import {users}; assert 'scipy.stats' not in sys.modules")
    assert "numpy" in loaded
    assert not loaded & {"cma", "cmaes", "matplotlib"}


def test_the_public_names_are_there_before_they_are_loaded_and_others_are_not():
    assert set(evovlm.__all__) == {*NAMES, "__version__"}
    assert set(NAMES) <= set(dir(evovlm))
    assert Recipe is Schema
    with pytest.raises(AttributeError, match="choose from"):
        evovlm.mrege  # noqa: B018


def test_the_version_is_the_one_that_is_installed():
    assert evovlm.__version__ == version("evovlm")
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_docstring_runs(name: str):
    found = getattr(evovlm, name)
    examples = doctest.DocTestParser().get_doctest(found.__doc__, {}, name, None, None)
    assert examples.examples[0].source.startswith(
        f"from evovlm import {name if name != 'evolve' else 'Recipe, evolve'}"
    )
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted >= 3
    assert results.failed == 0


def test_a_recipe_a_file_and_a_name_make_the_same_merge(place: Path):
    seen: list[tuple[int, int]] = []
    by_name, by_file = merge("zoo-llm", "by-name"), merge(ROOT / "recipes" / "zoo-llm.yaml", place / "by-file")
    by_object = merge(Recipe.read("zoo-llm"), "by-object", progress=lambda *now: seen.append(now))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (by_name, by_file, by_object)]
    assert weights[0] == weights[1] == weights[2]
    assert seen[-1][0] == seen[-1][1] > 0
    with pytest.raises(CheckpointError, match="exists"):
        merge("zoo-llm", "by-name")


def test_a_recipe_object_knows_what_its_folders_count_from(place: Path):
    (place / "mine" / "models").mkdir(parents=True)
    for name in ("base", "ja", "math"):
        (place / "mine" / "models" / name).symlink_to(zoo_folder(name))
    (place / "mine" / "recipe.yaml").write_text(
        "kind: llm\nmethod: task_arithmetic\nbase: {model: models/base}\n"
        "sources:\n  - {name: ja, model: models/ja}\n  - {name: math, model: models/math}\n",
        encoding="utf-8",
    )
    recipe = Recipe.read("mine/recipe.yaml").weighted({"ja": 0.5})
    assert merge(recipe, "out").is_dir()
    assert recipe.weighted({"ja": 1.0, "math": 1.0}) == Recipe.model_validate(recipe.model_dump()).weighted(
        {"ja": 1.0, "math": 1.0}
    )
    with pytest.raises(CheckpointError, match="models/base"):
        merge(Recipe.model_validate(recipe.model_dump(by_alias=True)), "other")


def test_a_recipe_is_scored_as_the_checkpoint_that_it_makes():
    as_recipe = evaluate("zoo-vlm", "zoo-vqa:test", items=24)
    as_checkpoint = evaluate(merge("zoo-vlm", "merged"), "zoo-vqa:test", items=24)
    assert as_recipe.answers == as_checkpoint.answers
    assert as_recipe.score == as_checkpoint.score
    low, high = as_recipe.interval().low, as_recipe.interval().high
    assert low < as_recipe.score < high


def test_a_recipe_with_a_route_is_scored_along_it():
    depth = json.loads((zoo_folder("ja") / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    recipe = Recipe.read("zoo-dfs").model_dump(by_alias=True)
    straight = [{"source": "ja", "layer": layer} for layer in range(depth)]
    whole = evaluate(Recipe.model_validate(recipe | {"route": straight}), "zoo-maths:validation", items=16)
    cut = evaluate(Recipe.model_validate(recipe | {"route": straight[1:]}), "zoo-maths:validation", items=16)
    assert whole.answers == evaluate("zoo:ja", "zoo-maths:validation", items=16).answers
    assert whole.answers != cut.answers


class Seen:
    """Notes the phases."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, name: str, total: int) -> None:
        self.phases.append(name)

    def step(self, text: str, **figures: float | None) -> None:
        assert self.phases


@pytest.mark.slow
def test_a_search_is_silent_unless_it_is_watched(place: Path, capfd: pytest.CaptureFixture[str]):
    evolve("zoo-llm", "study", trials=3, items=6, judged=6)
    assert capfd.readouterr() == ("", "")
    watch = Seen()
    evolve("zoo-llm", place / "study", trials=4, items=6, judged=6, watch=watch)  # prolonged by one
    assert watch.phases[0] == "search"
    assert len((place / "study" / "trials.jsonl").read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.slow
def test_suggest_takes_a_folder_and_refuses_one_model(place: Path):
    (place / "models").mkdir()
    (place / "models" / "ja").symlink_to(zoo_folder("ja"))
    with pytest.raises(RecipeError, match="two or more models"):
        suggest("models", base="zoo:base", data="zoo-maths:search")
    with pytest.raises(RecipeError, match="items: 1"):
        suggest(["zoo:ja", "zoo:math"], base="zoo:base", data="zoo-maths:search", items=1)
    (place / "models" / "math").symlink_to(zoo_folder("math"))
    advice = suggest(place / "models", base="zoo:base", data="zoo-maths:search", items=4)
    assert sorted(one.source for one in advice.ranking) == ["ja", "math"]


def test_weights_of_an_unknown_source_are_refused():
    with pytest.raises(RecipeError, match="unknown source 'jp'"):
        Recipe.read("zoo-vlm").weighted({"jp": 1.0})
