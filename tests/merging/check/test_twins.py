"""Two sources that are one model are told, whether by path or by content."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from evovlm import suggest
from evovlm.merging.assembly import open_models
from evovlm.merging.check import Finding, check_recipe
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from tests.hub_layouts import make_tokenizer, reshard, save_llm


@pytest.fixture
def models(tmp_path: Path) -> Path:
    plain = make_tokenizer(600)
    base = save_llm(tmp_path / "base", rows=600, tokenizer=plain)
    save_llm(tmp_path / "ja", rows=600, tokenizer=plain, ancestor=base, seed=2)
    shutil.copytree(tmp_path / "ja", tmp_path / "copy")
    reshard(tmp_path / "copy", 2)
    (tmp_path / "link").symlink_to(tmp_path / "ja")
    shutil.copytree(tmp_path / "ja", tmp_path / "near")
    tensors = load_file(tmp_path / "near" / "model.safetensors")
    tensors["model.norm.weight"][-1] *= 1.5
    save_file(tensors, tmp_path / "near" / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def told(models: Path, *names: str, **keys: Any) -> list[Finding]:
    sources = [{"name": name.replace("/", "-").strip("."), "model": name} for name in names]
    content = {"kind": "llm", "base": {"model": "base"}, "sources": sources, "method": "task_arithmetic"} | keys
    recipe = Recipe.model_validate(content)
    base, opened = open_models(recipe, models)
    return [
        one
        for one in check_recipe(recipe, base, list(opened.values()))
        if "the same" in one.text or "itself" in one.text
    ]


@pytest.mark.parametrize("second", ["link", "copy", "base/../ja"])
def test_two_sources_that_are_one_model_are_told(models: Path, second: str):
    (found,) = told(models, "ja", second)
    assert found.level == "warning"
    assert "is the same model as ja" in found.text


def test_models_that_differ_in_one_number_are_two(models: Path):
    assert told(models, "ja", "near") == []


def test_a_source_that_is_the_base_is_told_where_it_adds_nothing(models: Path):
    (found,) = told(models, "ja", "base")
    assert "adds nothing" in found.text
    assert told(models, "ja", "base", method="linear") == []


@pytest.mark.parametrize(
    ("given", "part"),
    [(["ja", "ja"], "is given twice"), (["ja", "copy"], "are the same model"), (["ja", "base"], "is the base itself")],
)
def test_suggest_refuses_the_same_model_twice(models: Path, given: list[str], part: str):
    with pytest.raises(RecipeError, match=part):
        suggest([models / name for name in given], base=models / "base", data="zoo-maths:search", items=2)
