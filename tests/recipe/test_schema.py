import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evovlm.recipe.schema import Recipe, Source, SourceParameters, value_at


def plain(**changes: object) -> Recipe:
    content: dict[str, object] = {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "task_arithmetic",
    }
    return Recipe.model_validate(content | changes)


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        plain(wieght=1.0)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"fidelity": []}, "is a list; give a mapping such as `base_tile: ...`"),
        ({"fidelity": 5}, "is a number; give a mapping such as `base_tile: ...`"),
        ({"options": {"lambda": [1]}}, "is a list; give two numbers, [low, high]"),
        ({"route": []}, "is a list; give a mapping such as `repeats: ...`"),
    ],
)
def test_a_value_of_another_kind_is_told_in_the_users_words(search: dict[str, object], told: str):
    with pytest.raises(ValidationError, match=re.escape(told)) as found:
        plain(search={"trials": 5, **search})
    assert "instance of" not in str(found.value)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        plain().method = "ties"  # type: ignore[misc]


def test_a_vlm_recipe_needs_an_owner():
    with pytest.raises(ValidationError, match="owner"):
        plain(kind="vlm")


def test_a_source_that_does_not_exist_is_told_the_choices():
    with pytest.raises(ValidationError, match=r"unknown source 'jp'; choose from \['ja', 'math'\]"):
        plain(parameters={"jp": {"weight": 1.0}})


def test_two_sources_of_one_name_are_refused():
    twins = [{"name": "ja", "model": "a"}, {"name": "ja", "model": "b"}]
    with pytest.raises(ValidationError, match="are used twice"):
        plain(sources=twins)


def test_a_search_on_its_test_set_is_refused():
    with pytest.raises(ValidationError, match="different splits"):
        plain(data={"search": "zoo-vqa:test", "test": "zoo-vqa:test"})


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_a_density_outside_zero_to_one_is_refused(density: float):
    with pytest.raises(ValidationError):
        SourceParameters(density=density)


def test_the_digest_follows_what_is_merged_and_not_how_it_was_found():
    one = plain()
    assert plain(search={"trials": 7}, data={"search": "a:s", "test": "a:t"}).digest() == one.digest()
    assert plain(seed=1).digest() != one.digest()
    assert plain(parameters={"ja": {"weight": 0.5}}).digest() != one.digest()
    assert plain(options={"lambda": 0.5}).digest() != one.digest()
    assert len(one.digest()) == 32


def test_the_digest_of_a_known_recipe_never_changes():
    assert plain().digest() == "6a83a18885ea704f88d93923427e28ed"


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=2))
def test_parameters_survive_a_round_trip_through_json(weights: list[float]):
    recipe = plain(parameters={"ja": {"weight": {"a": weights[0]}}, "math": {"weight": weights[1]}})
    again = Recipe.model_validate_json(recipe.model_dump_json(by_alias=True))
    assert again == recipe
    assert again.digest() == recipe.digest()


def test_a_group_that_a_mapping_leaves_out_takes_the_default():
    assert value_at({"head": 0.25}, "head", 1.0) == 0.25
    assert value_at({"head": 0.25}, "embeddings", 1.0) == 1.0
    assert value_at(0.5, "embeddings", 1.0) == 0.5


def test_a_source_name_may_not_hold_a_path():
    with pytest.raises(ValidationError):
        Source(name="../ja", model="x")
