"""A visitor's own recipe."""

from pathlib import Path

import pytest

from app.limits import Refusal
from app.mixing import ALL, candidate, methods_for, parameters_of, shown_value, with_value
from app.offers import Kitchen, offer, recipe_folder
from app.shown_recipe import shown_recipe
from evovlm.recipe_file import read_recipe


@pytest.fixture(scope="module")
def kitchens() -> tuple[Kitchen, ...]:
    return offer([], Path("no-studies")).kitchens


def test_one_group_moves_alone_and_all_move_together(kitchens: tuple[Kitchen, ...]):
    kitchen = kitchens[0]
    start = parameters_of(kitchen.recipe, kitchen.groups)
    one = with_value(start, "ja", "weight", "head", 0.3)
    assert one["ja"]["weight"] == start["ja"]["weight"] | {"head": 0.3}
    assert one["vlm"] == start["vlm"]
    everywhere = with_value(one, "ja", "weight", ALL, 0.6)
    assert set(everywhere["ja"]["weight"].values()) == {0.6}
    # All groups but one at 0.9, and one at 0.3: the slider for all stands at their mean.
    start["ja"]["weight"] = dict.fromkeys(kitchen.groups, 0.9)
    one = with_value(start, "ja", "weight", "head", 0.3)
    assert shown_value(one, "ja", "weight", ALL) == pytest.approx(0.9 - 0.6 / len(kitchen.groups), abs=1e-4)
    assert shown_value(one, "ja", "weight", "head") == 0.3


def test_untouched_sliders_are_the_recipe_itself(kitchens: tuple[Kitchen, ...]):
    for kitchen in kitchens:
        recipe = kitchen.recipe
        same = candidate(kitchen, parameters_of(recipe, kitchen.groups), recipe.method, recipe.seed)
        assert same.digest() == recipe.digest()


def test_slerp_is_offered_for_two_sources_alone(kitchens: tuple[Kitchen, ...]):
    two, three = (methods_for(kitchen) for kitchen in kitchens)
    assert "slerp" in two
    assert "slerp" not in three
    assert "passthrough" not in two + three


@pytest.mark.parametrize(
    "parameters",
    [{}, None, {"vlm": 1, "ja": 1}, {"vlm": {"weight": "a", "density": 1}, "ja": {"weight": 1, "density": 1}}],
)
def test_parameters_that_are_none_are_refused(kitchens: tuple[Kitchen, ...], parameters: object):
    with pytest.raises(Refusal):
        candidate(kitchens[0], parameters, "ties", 0)


def test_a_recipe_that_visitors_see_names_no_folder(tmp_path: Path):
    recipe = read_recipe(recipe_folder() / "zoo-vlm.yaml")
    assert "zoo:vlm" in shown_recipe(recipe)
    local = recipe.sources[0].model_copy(update={"model": str(tmp_path / "private" / "my-model")})
    data = recipe.data and recipe.data.model_copy(update={"test": f"vqa@{tmp_path}/items.jsonl:test"})
    shown = shown_recipe(recipe.model_copy(update={"sources": (local, *recipe.sources[1:]), "data": data}))
    assert "my-model" in shown
    assert str(tmp_path) not in shown
    assert "private" not in shown
