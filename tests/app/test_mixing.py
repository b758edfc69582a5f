"""A visitor's own recipe."""

from pathlib import Path

import pytest

from app.limits import Refusal
from app.mixing import ALL, candidate, methods_for, parameters_of, shown_value, with_value
from app.offers import Kitchen, offer


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
