"""What a class of a method's own options may hold."""

import doctest
from typing import Any

import pytest
from pydantic import Field, ValidationError

from evovlm.methods import OwnOptions, options


def test_the_example_of_the_docstring_runs():
    results = doctest.testmod(options)
    assert results.attempted >= 3
    assert results.failed == 0


@pytest.mark.parametrize(
    ("kind", "field", "told"),
    [
        (bool, Field(default=True), "give it a default and a description"),
        (bool, Field(description="turn"), "give it a default and a description"),
        (dict, Field(default={}, description="turn"), "use bool, int, float, str or Literal"),
    ],
)
def test_an_option_that_no_recipe_could_hold_or_no_page_describe_is_refused(kind: type, field: Any, told: str):
    with pytest.raises(TypeError, match=rf"Bad\.turn: .*{told}"):
        type("Bad", (OwnOptions,), {"__annotations__": {"turn": kind}, "turn": field})


@pytest.mark.parametrize("name", ["gamma", "lambda", "density"])
def test_an_option_by_the_name_of_another_setting_is_refused(name: str):
    with pytest.raises(TypeError, match=f"{name}: recipes have another setting of that name"):
        type("Bad", (OwnOptions,), {"__annotations__": {name: float}, name: Field(default=1.0, description="x")})


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_flag_is_true_or_false(value: object):
    class Flag(OwnOptions):
        turn: bool = Field(default=True, description="turn")

    with pytest.raises(ValidationError, match="valid boolean"):
        Flag.model_validate({"turn": value})


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "1"])
def test_a_number_is_finite_and_no_flag(value: object):
    class Number(OwnOptions):
        share: float = Field(default=1.0, description="how much")

    assert Number.model_validate({"share": 2}) == Number(share=2.0)
    with pytest.raises(ValidationError, match="number"):
        Number.model_validate({"share": value})
