import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evovlm.recipe.route import MAX_STEPS, Step, cumulative_scales, identity, in_words
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import parse_recipe, recipe_text
from evovlm.system.errors import RecipeError

YAML = """\
kind: llm
sources:
- {name: a, model: one}
- {name: b, model: two}
owner: a
method: passthrough
route:
- {source: a, layer: 0}
- {source: b, layer: 1, scale: 0.9}
"""


def read(text: str) -> Recipe:
    return parse_recipe(text, Path("r.yaml"))


def test_scales_multiply_along_the_route():
    route = [Step(source="a", layer=0, scale=s) for s in (0.5, -2.0, 3.0)]
    assert cumulative_scales(route) == [0.5, -1.0, -3.0]


def test_a_route_reads_as_runs_of_layers():
    route = (*identity("a", 3), Step(source="b", layer=1), *identity("a", 1))
    assert in_words(route) == "a 0-2, b 1, a 0"


def test_a_recipe_with_a_route_reads_as_it_was_written():
    recipe = read(YAML)
    assert recipe.route == (Step(source="a", layer=0), Step(source="b", layer=1, scale=0.9))
    text = recipe_text(recipe)
    assert "- {source: b, layer: 1, scale: 0.9}" in text
    assert read(text) == recipe


def test_routes_have_digests_of_their_own_and_recipes_without_keep_theirs():
    recipe = read(YAML)
    other = recipe.model_copy(update={"route": recipe.route[:1]})
    assert recipe.digest() != other.digest()
    plain = {"kind": "llm", "sources": [{"name": "ja", "model": "x"}], "method": "linear"}
    assert Recipe.model_validate(plain).digest() == "838836afc40d36cb8ee526de74a97f2e"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("scale: 0.9", "scale: .nan", r"r.yaml:9: route.1.scale: the scale nan would destroy the residual stream"),
        ("scale: 0.9", "scale: .inf", r"route.1.scale: the scale inf"),
        ("scale: 0.9", "scale: 0", r"route.1.scale: the scale 0.0 would destroy the residual stream"),
        ("layer: 1,", "layer: -1,", r"r.yaml:9: route.1.layer"),
        ("source: b, layer", "source: c, layer", r"route: step 1: unknown source 'c'; choose from \['a', 'b'\]"),
        ("source: b, layer", "from: b, layer", r"route.1.from: unknown key"),
    ],
)
def test_a_bad_step_is_refused_with_its_number(old: str, new: str, told: str):
    with pytest.raises(RecipeError, match=told):
        read(YAML.replace(old, new))


def test_an_empty_route_is_refused_where_it_is_written_down():
    text = YAML[: YAML.index("route:")] + "route: []\n"
    with pytest.raises(RecipeError, match=r"r.yaml:\d+: route: the route is empty: step 0 is missing"):
        read(text)


def test_a_cycle_longer_than_the_cache_is_refused_with_the_steps_number():
    content: dict[str, Any] = {"kind": "llm", "sources": [{"name": "a", "model": "x"}], "method": "passthrough"}
    route = [{"source": "a", "layer": index % 4} for index in range(MAX_STEPS + 1)]
    with pytest.raises(ValidationError, match=rf"step {MAX_STEPS} \(a 0\) is beyond the KV cache"):
        Recipe.model_validate(content | {"route": route})
    assert len(Recipe.model_validate(content | {"route": route[:-1]}).route) == MAX_STEPS


def test_a_step_needs_a_finite_scale_when_made_in_python_too():
    with pytest.raises(ValidationError, match="would destroy the residual stream"):
        Step(source="a", layer=0, scale=math.nan)
