"""Headers of studies that an earlier evovlm wrote, read by a schema that has gained keys since."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, create_model

from evovlm.recipe._frozen import LATER, Frozen
from evovlm.recipe.schema import Options, Recipe
from evovlm.recipe.search_settings import Search
from evovlm.search.space.parameters import genes_of
from evovlm.study import header as study_header
from evovlm.study import log as study_log
from evovlm.study.header import recipe_of
from evovlm.study.study import Study
from evovlm.system.errors import StudyError

CONTENT: dict[str, Any] = {
    "kind": "llm",
    "base": {"model": "org/base"},
    "sources": [{"name": "ja", "model": "org/ja"}],
    "method": "task_arithmetic",
    "options": {"normalize": False},
    "search": {"weight": [0.0, 1.0], "density": None, "trials": 7},
}


def header_of(recipe: Recipe, /, **changes: Any) -> dict[str, Any]:
    """A header as a plan makes it: the number of trials left open."""
    content = recipe.model_dump(mode="json", by_alias=True)
    search = content["search"] | {"trials": None}
    made = {
        "recipe": content | {"search": search},
        "genes": ["ja.weight.whole"],
        "search": search,
        "items": {"ids": ["one"]},
        "versions": {"evovlm": "0.1.0", "commit": "368cf2f"},
        "race": {"first": 4, "growth": 2.0, "most": 0.0625, "level": 0.3, "random": 0.5},
    }
    return json.loads(json.dumps(made | changes))  # type: ignore[no-any-return]


def opened(folder: Path, recipe: Recipe, header: dict[str, Any]) -> Study:
    return Study.open(folder, recipe, genes_of(recipe, 2), header)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of the recipe, with today's schema."""
    recipe = Recipe.model_validate(CONTENT)
    opened(tmp_path / "s", recipe, header_of(recipe))
    return tmp_path / "s"


def gain_a_key(monkeypatch: pytest.MonkeyPatch, *, to: type[Frozen]) -> type[Recipe]:
    """Give one model of the schema the key `dummy`, as a later evovlm may; returns the recipe's schema then."""
    key: Any = {"dummy": (Annotated[int, LATER], Field(default=3, ge=1))}
    grown: Any = create_model(to.__name__, __base__=to, **key)
    recipe = grown
    if to is Options:
        recipe = create_model("Recipe", __base__=Recipe, options=(grown, grown()))
    if to is Search:
        recipe = create_model("Recipe", __base__=Recipe, search=(grown, ...))
        monkeypatch.setattr(study_header, "Search", grown)
    monkeypatch.setattr(study_header, "Recipe", recipe)
    return recipe  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("to", "path", "named"),
    [(Recipe, (), "recipe"), (Options, ("options",), "recipe.options"), (Search, ("search",), "recipe.search")],
)
def test_a_study_from_before_a_key_goes_on_at_its_default_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, to: type[Frozen], path: tuple[str, ...], named: str
):
    later = gain_a_key(monkeypatch, to=to)
    recipe = later.model_validate(CONTENT)
    header = header_of(recipe)
    assert '"dummy": 3' in json.dumps(header)
    assert opened(folder, recipe, header).trials == []
    assert recipe_of(folder, study_log.read_header(folder)).digest() == recipe.digest()

    changed = json.loads(json.dumps(CONTENT))
    place = changed
    for step in path:
        place = place[step]
    place["dummy"] = 4
    other = later.model_validate(changed)
    with pytest.raises(StudyError, match=re.escape(f"another `{named}.dummy` (3; now 4); resume with")):
        opened(folder, other, header_of(other))


def test_a_race_from_before_a_key_goes_on_at_its_default_alone(folder: Path):
    stored = study_log.read_header(folder)
    del stored["race"]["random"]
    (folder / study_log.HEADER).write_text(json.dumps(stored), encoding="utf-8")
    recipe = Recipe.model_validate(CONTENT)
    opened(folder, recipe, header_of(recipe))
    other = header_of(recipe)
    other["race"]["random"] = 0.25
    with pytest.raises(StudyError, match=re.escape("another `race.random` (0.5; now 0.25)")):
        opened(folder, recipe, other)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"recipe": CONTENT | {"colour": "red"}}, "recipe.colour: Extra inputs are not permitted"),
        ({"recipe": CONTENT | {"sources": []}}, "recipe.sources: Tuple should have at least 1 item"),
        ({"search": {"sigma": 2}}, "search.sigma: Input should be less than or equal to 1"),
        ({"race": {"laps": 3}}, "race: got an unexpected keyword argument 'laps'"),
    ],
)
def test_a_header_that_todays_schema_cannot_read_names_the_version_that_can(
    folder: Path, entry: dict[str, Any], told: str
):
    recipe = Recipe.model_validate(CONTENT)
    (folder / study_log.HEADER).write_text(json.dumps(header_of(recipe, **entry)), encoding="utf-8")
    with pytest.raises(StudyError, match=rf"cannot read .*\({re.escape(told)}.*evovlm 0\.1\.0, commit 368cf2f: use"):
        opened(folder, recipe, header_of(recipe))


def test_a_headers_recipe_is_the_one_that_was_searched(folder: Path):
    found = recipe_of(folder, study_log.read_header(folder))
    assert found.search is not None
    assert found.search.density is None  # not the default: densities are not searched
    assert found.search.trials == Search().trials
    expected = Recipe.model_validate(CONTENT)
    assert expected.search is not None
    assert found.search == expected.search.model_copy(update={"trials": Search().trials})
