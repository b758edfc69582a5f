"""The recipes that come with evovlm are valid, and those of the paper say what the paper says."""

from pathlib import Path

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search.space.parameters import genes_of
from evovlm.tasks import Options, parse_split

RECIPES = Path(__file__).parent.parent.parent / "recipes"
MISTRAL_LAYERS = 32


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_valid_and_can_be_searched(path: Path):
    recipe = read_recipe(path)
    assert recipe.search is not None
    assert recipe.data is not None


@pytest.mark.parametrize(("name", "genes"), [("evovlm-jp", 40), ("evollm-jp", 60)])
def test_the_papers_merges_have_the_papers_search(name: str, genes: int):
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert recipe.base is not None
    assert recipe.base.model == "mistralai/Mistral-7B-v0.1"
    assert (recipe.method, recipe.options.normalize) == ("dare_ties", True)
    assert recipe.search is not None
    assert (recipe.search.trials, recipe.search.start) == (1000, 0.5)
    assert recipe.search.sigma == pytest.approx(1 / 6, abs=1e-6)
    assert recipe.search.population is None
    # A weight and a density for ten groups a source, as the recipe's comments tell.
    assert len(genes_of(recipe, MISTRAL_LAYERS)) == genes


def models(recipe: Recipe) -> list[str]:
    return [source.model for source in recipe.sources]


def test_the_vlm_recipe_gives_the_japanese_model_the_eyes_of_llava():
    recipe = read_recipe(RECIPES / "evovlm-jp.yaml")
    assert models(recipe) == ["llava-hf/llava-v1.6-mistral-7b-hf", "augmxnt/shisa-gamma-7b-v1"]
    assert (recipe.kind, recipe.owner) == ("vlm", "vlm")


def test_the_maths_recipe_merges_the_papers_three_models():
    recipe = read_recipe(RECIPES / "evollm-jp.yaml")
    assert models(recipe) == ["augmxnt/shisa-gamma-7b-v1", "WizardLM/WizardMath-7B-V1.1", "GAIR/Abel-7B-002"]
    assert (recipe.kind, recipe.owner) == ("llm", "ja")


def test_the_papers_routes_have_the_papers_search():
    recipe = read_recipe(RECIPES / "evollm-jp-dfs.yaml")
    assert recipe.search is not None
    assert recipe.search.route is not None
    assert recipe.search.route.repeats == 3
    assert (recipe.search.algorithm, recipe.search.population) == ("cmaes", 128)
    assert recipe.search.trials == 128 * 100


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_names_tasks_and_presets_that_there_are(path: Path):
    data = read_recipe(path).data
    assert data is not None
    for where in (data.search, data.validation, data.test):
        if where is not None:
            task, split = parse_split(where, Options(preset=data.preset), RECIPES)
            assert split in task.splits
            assert (split in task.test_splits) == (where == data.test)
