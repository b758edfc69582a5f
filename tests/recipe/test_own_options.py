"""Options that only a recipe's method has: read with the line of each mistake, kept without defaults."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from evovlm.merging._model_card import CardFacts, model_card
from evovlm.methods import METHODS, OwnOptions
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import parse_recipe, recipe_text
from evovlm.system.errors import RecipeError

HEAD = "kind: llm\nbase: {model: zoo:base}\nsources:\n- {name: ja, model: zoo:ja}\n"


class Turning(OwnOptions):
    flatten: bool = Field(default=True, description="turn the whole tensor as one vector")
    share: float = Field(default=0.5, ge=0.0, le=1.0, description="how far to turn")
    way: Literal["short", "long"] = Field(default="short", description="which way round")


@pytest.fixture(autouse=True)
def _turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "turn", replace(METHODS["linear"], name="turn", options=Turning))


def recipe(options: str, name: str = "turn") -> Recipe:
    return parse_recipe(f"{HEAD}method: {name}\noptions: {options}\n", Path("mine.yaml"))


def test_options_are_read_written_and_shown_on_the_card():
    found = recipe("{flatten: false, share: 1, lambda: 0.5}")
    assert found.options.own == {"flatten": False, "share": 1.0}
    assert found.options.lambda_ == 0.5
    assert parse_recipe(recipe_text(found), Path()) == found
    assert Recipe.model_validate_json(found.model_dump_json(by_alias=True)).digest() == found.digest()
    card = model_card(found, CardFacts(digest=found.digest(), version="1"))
    assert "options:\n  lambda: 0.5\n  flatten: false\n  share: 1.0\n" in card


def test_an_option_at_its_default_changes_neither_recipe_nor_digest():
    plain = recipe("{lambda: 0.5}")
    same = recipe("{lambda: 0.5, flatten: true, share: 0.5, way: short}")
    assert same == plain
    assert same.digest() == plain.digest()
    assert same.model_dump() == plain.model_dump()
    assert recipe("{lambda: 0.5, share: 0.25}").digest() != plain.digest()
    assert recipe("{lambda: 0.5, share: 1}").digest() == recipe("{lambda: 0.5, share: 1.0}").digest()


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        (
            "turn",
            "\n  lambda: 1.0\n  flaten: true",
            "mine.yaml:8: options.flaten: unknown key; did you mean 'flatten'?",
        ),
        (
            "turn",
            "{colour: red}",
            "mine.yaml:6: options.colour: unknown key; turn has"
            " ['epsilon', 'flatten', 'gamma', 'lambda', 'normalize', 'rescale', 'share', 'way']",
        ),
        ("turn", "{flatten: 1}", "mine.yaml:6: options.flatten: Input should be a valid boolean"),
        ("turn", "{share: yes}", "mine.yaml:6: options.share: Input should be a valid number"),
        ("turn", "{share: 1.5}", "mine.yaml:6: options.share: Input should be less than or equal to 1"),
        ("turn", "{way: round}", "mine.yaml:6: options.way: Input should be 'short' or 'long'"),
        (
            "ties",
            "{flatten: true}",
            "mine.yaml:6: options.flatten: unknown key; ties has"
            " ['epsilon', 'gamma', 'lambda', 'normalize', 'rescale']",
        ),
        (
            "turning",
            "{flatten: true}",
            "mine.yaml:6: options.flatten: unknown key, for there is no method 'turning'; all methods have"
            " ['epsilon', 'gamma', 'lambda', 'normalize', 'rescale']",
        ),
        ("turning", "{lamda: 1.0}", "mine.yaml:6: options.lamda: unknown key; did you mean 'lambda'?"),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_key(name: str, options: str, told: str):
    with pytest.raises(RecipeError) as refused:
        recipe(options, name)
    assert str(refused.value) == told


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(RecipeError) as refused:
        recipe("{flatten: 1, share: 2, colour: red}")
    assert len(str(refused.value).splitlines()) == 3


def test_another_method_does_not_inherit_them():
    found = recipe("{flatten: false, lambda: 0.5}")
    other = found.by("linear")
    assert (other.method, other.options.own, other.options.lambda_) == ("linear", {}, 0.5)
    assert found.by("turn") == found


def test_a_recipe_without_such_options_is_checked_without_torch():
    content = recipe("{lambda: 0.5}", "ties").model_dump(by_alias=True)
    code = (
        "import sys; from evovlm.recipe.schema import Recipe;"
        f" Recipe.model_validate({content!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
