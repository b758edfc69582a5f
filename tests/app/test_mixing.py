"""A visitor's own recipe."""

from pathlib import Path

import pytest

from evovlm.recipe.schema import Recipe
from evovlm_app.catalogue import MixableRecipe, offer
from evovlm_app.limits import Refusal
from evovlm_app.mixing import ALL, candidate, methods_for, parameters_of, shown_value, with_value
from evovlm_app.shown_recipe import shown_recipe


@pytest.fixture(scope="module")
def mixables() -> tuple[MixableRecipe, ...]:
    return offer([], Path("no-studies")).mixables


def test_one_group_moves_alone_and_all_move_together(mixables: tuple[MixableRecipe, ...]):
    mixable = mixables[0]
    start = parameters_of(mixable.recipe, mixable.groups)
    one = with_value(start, "ja", "weight", "head", 0.3)
    assert one["ja"]["weight"] == start["ja"]["weight"] | {"head": 0.3}
    assert one["vlm"] == start["vlm"]
    everywhere = with_value(one, "ja", "weight", ALL, 0.6)
    assert set(everywhere["ja"]["weight"].values()) == {0.6}
    # All groups but one at 0.9, and one at 0.3: the slider for all stands at their mean.
    start["ja"]["weight"] = dict.fromkeys(mixable.groups, 0.9)
    one = with_value(start, "ja", "weight", "head", 0.3)
    assert shown_value(one, "ja", "weight", ALL) == pytest.approx(0.9 - 0.6 / len(mixable.groups), abs=1e-4)
    assert shown_value(one, "ja", "weight", "head") == 0.3


def test_untouched_sliders_are_the_recipe_itself(mixables: tuple[MixableRecipe, ...]):
    for mixable in mixables:
        recipe = mixable.recipe
        same = candidate(mixable, parameters_of(recipe, mixable.groups), recipe.method, recipe.seed)
        assert same.digest() == recipe.digest()


def test_slerp_is_offered_for_two_sources_alone(mixables: tuple[MixableRecipe, ...]):
    two, three = (methods_for(mixable) for mixable in mixables)
    assert "slerp" in two
    assert "slerp" not in three
    assert "passthrough" not in two + three


@pytest.mark.parametrize(
    "parameters",
    [{}, None, {"vlm": 1, "ja": 1}, {"vlm": {"weight": "a", "density": 1}, "ja": {"weight": 1, "density": 1}}],
)
def test_parameters_that_are_none_are_refused(mixables: tuple[MixableRecipe, ...], parameters: object):
    with pytest.raises(Refusal):
        candidate(mixables[0], parameters, "ties", 0)


def test_a_recipe_that_visitors_see_names_no_folder(tmp_path: Path):
    recipe = Recipe.read("zoo-vlm")
    assert "zoo:vlm" in shown_recipe(recipe)
    local = recipe.sources[0].model_copy(update={"model": str(tmp_path / "private" / "my-model")})
    data = recipe.data and recipe.data.model_copy(update={"test": f"vqa@{tmp_path}/items.jsonl:test"})
    shown = shown_recipe(recipe.model_copy(update={"sources": (local, *recipe.sources[1:]), "data": data}))
    assert "my-model" in shown
    assert str(tmp_path) not in shown
    assert "private" not in shown
