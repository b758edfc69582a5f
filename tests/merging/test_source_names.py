"""A source may be called anything, also what the code itself calls a model: the name changes no weight."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm.merging.assembly import assemble
from evovlm.merging.build import card_facts
from evovlm.merging.live.choose import Keeping, _nbytes
from evovlm.merging.live.gpu import DeviceMerger
from evovlm.merging.live.placement import Placement
from evovlm.recipe.schema import Recipe
from tests.hub_layouts import make_tokenizer, save_llm

ROWS = 600


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, a source like it, and one whose rows are in another order, so that a mix-up shows."""
    folder = tmp_path_factory.mktemp("models")
    plain = make_tokenizer(ROWS)
    base = save_llm(folder / "base", rows=ROWS, tokenizer=plain, seed=1)
    return {
        "base": base,
        "ja": save_llm(folder / "ja", rows=ROWS, tokenizer=plain, ancestor=base, seed=2),
        "permuted": save_llm(folder / "permuted", rows=ROWS, tokenizer=make_tokenizer(ROWS, order_seed=7), seed=3),
    }


def recipe(models: dict[str, Path], name: str, **changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": str(models["base"])},
        "sources": [{"name": "ja", "model": str(models["ja"])}, {"name": name, "model": str(models["permuted"])}],
        "owner": "ja",
        "method": "task_arithmetic",
        "parameters": {"ja": {"weight": 0.5}, name: {"weight": 0.5}},
        "dtype": "float32",
    }
    return Recipe.model_validate(content | changes)


@pytest.mark.parametrize("name", ["base", "owner", "tower"])
def test_a_sources_name_changes_no_weight(models: dict[str, Path], name: str):
    plain, named = (assemble(recipe(models, each), Path()) for each in ("x", name))
    for one, other in zip(plain.jobs, named.jobs, strict=True):
        assert torch.equal(plain.merge(one), named.merge(other)), one.name


def test_a_live_merge_places_a_source_called_base_apart_from_the_base(models: dict[str, Path]):
    made = recipe(models, "base")
    assembly = assemble(made, Path())
    labels = list(_nbytes(assembly, Keeping()))
    assert labels == ["the base", "ja", "base"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = {job.name: torch.nn.Parameter(torch.empty(job.shape, device=device)) for job in assembly.jobs}
    merger = DeviceMerger(assembly, tower, Placement(dict.fromkeys(labels, "host"), dict.fromkeys(labels, 0)))
    merger.merge(made)
    for job in assembly.jobs:
        assert torch.equal(tower[job.name].data.cpu(), assembly.merge(job)), job.name


def test_findings_and_licences_keep_the_two_apart(models: dict[str, Path], tmp_path: Path):
    assembly = assemble(recipe(models, "base"), Path())
    keys = {finding.key for finding in assembly.findings}
    assert {"base.licence", "sources.base.licence"} <= keys
    assert set(card_facts(assembly).licences) == {"the base", "ja", "base"}


def test_without_such_a_source_the_base_is_called_base(models: dict[str, Path]):
    assembly = assemble(recipe(models, "x"), Path())
    assert assembly.base is not None
    assert (assembly.base.label, assembly.base.place) == ("base", "base")
