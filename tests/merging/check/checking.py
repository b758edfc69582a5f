"""Recipes of small models, what `check_recipe` finds in them, and edits of their files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from evovlm.merging.check import Finding, check_recipe
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Recipe
from tests.hub_layouts import make_tokenizer

Save = Callable[..., Path]
SMALL = make_tokenizer(1000)


def recipe(*sources: str, **keys: Any) -> Recipe:
    listed = [{"name": name, "model": name} for name in sources]
    content = {"kind": "llm", "base": {"model": "base"}, "sources": listed, "method": "dare_ties"} | keys
    return Recipe.model_validate(content)


def check(recipe: Recipe, root: Path, out: Path | None = None) -> list[Finding]:
    base = None if recipe.base is None else open_model(recipe.base_label, recipe.base.model, None, root, is_base=True)
    sources = [open_model(source.name, source.model, source.revision, root) for source in recipe.sources]
    return check_recipe(recipe, base, sources, out=out)


def of(findings: list[Finding], key: str, level: str) -> str:
    texts = [finding.text for finding in findings if (finding.key, finding.level) == (key, level)]
    assert texts, f"no {level} at {key} among {findings}"
    return " | ".join(texts)


def errors(findings: list[Finding]) -> list[str]:
    return [finding.key for finding in findings if finding.level == "error"]


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
