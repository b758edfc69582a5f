"""Keys that the schema gains later leave digests as they were."""

from typing import Annotated

import pytest
from pydantic import Field, create_model

from evovlm.recipe._frozen import FOR_DIGEST, LATER, Frozen
from evovlm.recipe.route import Step
from evovlm.recipe.schema import Base, Options, Recipe, Slice, Source, SourceParameters
from evovlm.recipe.search_settings import Fidelity, Search

CONTENT = {
    "kind": "llm",
    "base": {"model": "org/base"},
    "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math", "revision": "abc"}],
    "owner": "ja",
    "method": "dare_ties",
    "options": {"normalize": False, "lambda": 0.9},
    "parameters": {"ja": {"weight": {"head": 0.2}, "density": 0.5}},
    "slices": [{"source": "ja", "layers": [0, 2]}],
    "route": [{"source": "ja", "layer": 0}, {"source": "math", "layer": 1, "scale": 0.5}],
    "search": {"trials": 5},
}


def grown(model: type[Frozen]) -> type[Frozen]:
    """The model with one key more, as a later version of evovlm may have it."""
    return create_model(model.__name__, __base__=model, dummy=(Annotated[int, LATER], Field(default=3, ge=1)))


def grown_recipe(**parts: object) -> type[Recipe]:
    """The recipe's schema with other parts: field name -> (annotation, default or `...`)."""
    return create_model("Recipe", __base__=Recipe, **parts)  # type: ignore[call-overload, no-any-return]


NESTED = {
    "base": (grown(Base), ("base",)),
    "sources": (tuple[grown(Source), ...], ("sources", 1)),  # type: ignore[misc]
    "options": (grown(Options), ("options",)),
    "parameters": (dict[str, grown(SourceParameters)], ("parameters", "ja")),  # type: ignore[misc]
    "slices": (tuple[grown(Slice), ...], ("slices", 0)),  # type: ignore[misc]
    "route": (tuple[grown(Step), ...], ("route", 1)),  # type: ignore[misc]
}


def with_dummy(value: object, *path: str | int) -> dict[str, object]:
    """CONTENT with the dummy key in the mapping at `path`."""
    content = Recipe.model_validate(CONTENT).model_dump(mode="json", by_alias=True)
    place = content
    for step in path:
        place = place[step]
    place["dummy"] = value
    return content


def test_a_key_that_the_recipe_gains_leaves_digests_alone_until_it_is_used():
    later = grown(Recipe)
    digest = Recipe.model_validate(CONTENT).digest()
    for content in (CONTENT, with_dummy(3)):
        assert later.model_validate(content).digest() == digest
    assert later.model_validate(with_dummy(4)).digest() != digest


@pytest.mark.parametrize("part", sorted(NESTED))
def test_a_key_that_a_part_of_the_recipe_gains_leaves_digests_alone_until_it_is_used(part: str):
    annotation, path = NESTED[part]
    later = grown_recipe(**{part: (annotation, Field())})
    digest = Recipe.model_validate(CONTENT).digest()
    for content in (CONTENT, with_dummy(3, *path)):
        assert later.model_validate(content).digest() == digest
    assert later.model_validate(with_dummy(4, *path)).digest() != digest


def test_only_what_a_digest_is_made_of_lacks_the_key():
    later = grown(Search)(fidelity=Fidelity(beams=1))
    assert later.model_dump()["dummy"] == 3
    assert "dummy" not in later.model_dump(context=FOR_DIGEST)
    assert later.model_dump(context=FOR_DIGEST)["fidelity"]["beams"] == 1
    assert "fidelity" not in Search().model_dump(context=FOR_DIGEST)


def test_a_later_key_is_left_out_under_its_alias_too():
    later = create_model("Later", __base__=Options, in_=(Annotated[bool, LATER], Field(default=False, alias="in")))
    plain = Options().model_dump(by_alias=True)
    assert later().model_dump(by_alias=True) == plain | {"in": False}
    assert later().model_dump(by_alias=True, context=FOR_DIGEST) == plain
    assert "in_" not in later().model_dump(by_alias=False, context=FOR_DIGEST)


def test_a_later_key_without_a_default_is_a_mistake_in_the_schema():
    with pytest.raises(AssertionError, match=r"Later\.depth: LATER needs a default"):
        create_model("Later", __base__=Search, depth=(Annotated[int, LATER], ...))
