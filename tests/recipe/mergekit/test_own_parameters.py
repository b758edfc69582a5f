"""A method's own options in mergekit's YAML: its row alone says which parameters they are there."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from evovlm.methods import METHODS, OwnOptions
from evovlm.recipe.mergekit import read_mergekit, write_mergekit
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError


class Turning(OwnOptions):
    flatten: bool = Field(default=True, description="turn the whole tensor as one vector")
    share: float = Field(default=0.5, ge=0.0, le=1.0, description="how far to turn")
    turns: int = Field(default=1, ge=1, description="how often")
    way: Literal["short", "long"] = Field(default="short", description="which way round")
    ours: bool = Field(default=False, description="what mergekit does not have")


THEIRS = {"turn_flatten": "flatten", "epsilon": "share", "turns": "turns", "way": "way"}
PLAIN = "merge_method: turn\nmodels:\n- model: a/x\n- model: a/y\ndtype: float16\n"


@pytest.fixture(autouse=True)
def _turn(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, Any] = {"name": "turn", "options": Turning, "mergekit": THEIRS, "weighted": False, "uses": ()}
    monkeypatch.setitem(METHODS, "turn", replace(METHODS["linear"], **changes))


@pytest.mark.parametrize("place", ["whole", "models", "slices"])
def test_parameters_are_read_as_the_methods_own_options(place: str):
    own = {"turn_flatten": False, "epsilon": "1e-1", "turns": 3.0, "way": "long"}
    content: dict[str, Any] = yaml.safe_load(PLAIN)
    if place == "whole":
        content["parameters"] = own
    elif place == "models":
        content["models"] = [entry | {"parameters": own} for entry in content["models"]]
    else:
        sources = [entry | {"layer_range": [0, 2]} for entry in content.pop("models")]
        content["slices"] = [{"sources": sources, "parameters": own}]
    found = read_mergekit(yaml.safe_dump(content))
    assert found.options.own == {"flatten": False, "share": 0.1, "turns": 3, "way": "long"}
    assert found.options.epsilon == 0.15  # theirs is another option here


def test_every_option_that_mergekit_has_is_written_and_read_back():
    recipe = read_mergekit(PLAIN + "parameters: {turn_flatten: 0, turns: 2}\n")
    assert recipe.options.own == {"flatten": False, "turns": 2}
    text = write_mergekit(recipe)
    assert yaml.safe_load(text)["parameters"] == {"turn_flatten": False, "epsilon": 0.5, "turns": 2, "way": "short"}
    assert read_mergekit(text).options == recipe.options


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{turn_flatten: [1, 0]}", r"parameters.turn_flatten: differs between layers"),
        ("{turn_flatten: round}", r"parameters.turn_flatten: 'round' must be true or false"),
        ("{epsilon: 1.5}", r"parameters.epsilon: Input should be less than or equal to 1"),
        ("{turns: 1.5}", r"parameters.turns: 1.5 is not a whole number"),
        ("{way: round}", r"parameters.way: Input should be 'short' or 'long'"),
        ("{flatten: true}", r"parameters.flatten: unknown parameter; .*'turn_flatten'"),
    ],
)
def test_values_that_the_option_does_not_take_are_refused_by_mergekits_name(text: str, told: str):
    with pytest.raises(RecipeError, match=told):
        read_mergekit(f"{PLAIN}parameters: {text}\n")


def test_a_parameter_of_another_method_is_refused():
    with pytest.raises(RecipeError, match=r"parameters.turn_flatten: unknown parameter"):
        read_mergekit(PLAIN.replace("turn", "linear") + "parameters: {weight: 1, turn_flatten: true}\n")


def test_an_option_that_mergekit_lacks_is_not_exported():
    recipe = read_mergekit(PLAIN)
    content = recipe.model_dump(by_alias=True) | {"options": {"ours": True}}
    with pytest.raises(RecipeError, match=r"options.ours: mergekit's turn has no such option"):
        write_mergekit(Recipe.model_validate(content))
