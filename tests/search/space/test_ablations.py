from pathlib import Path

import pytest

from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.recipe.yaml_file import read_recipe
from evovlm.search.space.ablations import rivals_of
from evovlm.search.space.parameters import genes_of
from evovlm.study import log as study_log
from tests.evolution.test_run import RECIPES, Silent


def test_random_search_keeps_the_genes_and_a_whole_model_has_one_weight_a_source():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    rivals = rivals_of(recipe)
    assert rivals["random_search"].search is not None
    assert rivals["random_search"].search.algorithm == "random"
    assert genes_of(rivals["random_search"], 8) == genes_of(recipe, 8)
    names = [gene.name for gene in genes_of(rivals["whole_model"], 8)]
    assert names == ["vlm.weight.whole", "ja.weight.whole"]
    assert rivals["whole_model"].search == recipe.search


def test_a_search_that_is_its_own_rival_has_none():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    assert recipe.search is not None
    plain = recipe.model_copy(
        update={"groups": "whole", "search": recipe.search.model_copy(update={"algorithm": "random"})}
    )
    assert rivals_of(plain) == {}


def test_parameters_by_group_do_not_outlive_the_groups():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    grouped = recipe.of("vlm").model_copy(update={"weight": {"head": 0.3}})
    recipe = recipe.model_copy(update={"parameters": {**recipe.parameters, "vlm": grouped}})
    assert not isinstance(rivals_of(recipe)["whole_model"].of("vlm").weight, dict)


@pytest.mark.slow
def test_rivals_are_searched_once_with_the_same_number_of_trials(tmp_path: Path):
    settings = EvolveSettings(trials=4, items=6, judged=8)
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    first = evolve(plan_evolution(recipe, RECIPES, settings), tmp_path, Silent())
    assert "random_search" not in first.held_out.controls
    with_rivals = plan_evolution(recipe, RECIPES, EvolveSettings(trials=4, items=6, judged=8, rivals=True))
    result = evolve(with_rivals, tmp_path, Silent())
    assert {"random_search", "whole_model"} <= set(result.held_out.controls)
    for name in ("random_search", "whole_model"):
        assert len(study_log.read_trials(tmp_path / study_log.RIVALS / name)) == 4
    assert result.held_out.evolved == first.held_out.evolved
    before = (tmp_path / study_log.RESULT).stat().st_mtime_ns
    assert evolve(with_rivals, tmp_path, Silent()) == result
    assert (tmp_path / study_log.RESULT).stat().st_mtime_ns == before
