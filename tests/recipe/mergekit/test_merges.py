"""Whole files of mergekit's, merged here and by mergekit 0.1.5 (make_merges.py): the same values for every tensor."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from evovlm.merging.assembly import assemble
from evovlm.methods import METHODS
from evovlm.recipe.mergekit import read_mergekit, write_mergekit
from evovlm.system.errors import RecipeError
from tests.recipe.mergekit.tiny_models import make_tensors, save_models

HERE = Path(__file__).parent
DOCUMENTS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "merges.yml").read_text(encoding="utf-8"))
MERGES = load_file(HERE / "merges.safetensors")
TOLERANCE = 1e-6  # of the norm of a tensor


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


def merged(text: str, folder: Path) -> dict[str, Tensor]:
    assembly = assemble(read_mergekit(text, folder / "theirs.yml"), folder)
    return {job.name: assembly.merge(job) for job in assembly.jobs}


def expected(name: str) -> dict[str, Tensor]:
    tensors, start, found = make_tensors()["base"], 0, {}
    for key in sorted(tensors):
        found[key] = MERGES[name][start : start + tensors[key].numel()].view(tensors[key].shape)
        start += tensors[key].numel()
    assert start == MERGES[name].numel()
    return found


def test_every_document_has_its_figures():
    assert DOCUMENTS.keys() == MERGES.keys()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_file_gives_the_values_that_mergekit_computed(name: str, models: Path):
    found = merged(yaml.safe_dump(DOCUMENTS[name], sort_keys=False), models)
    theirs = expected(name)
    assert found.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert float((found[key] - tensor).norm()) <= TOLERANCE * float(tensor.norm()), key


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_file_survives_the_way_to_a_recipe_and_back(name: str, models: Path):
    ours = read_mergekit(yaml.safe_dump(DOCUMENTS[name], sort_keys=False), models / "theirs.yml")
    again = write_mergekit(ours)
    found, theirs = merged(again, models), expected(name)
    for key, tensor in theirs.items():
        assert float((found[key] - tensor).norm()) <= TOLERANCE * float(tensor.norm()), key


def test_nearswap_needs_its_t_as_in_mergekit(models: Path):
    content = {key: value for key, value in DOCUMENTS["nearswap"].items() if key != "parameters"}
    with pytest.raises(RecipeError, match=r"parameters\.t: missing; mergekit's nearswap needs it"):
        read_mergekit(yaml.safe_dump(content), models / "theirs.yml")


def test_every_option_of_the_methods_that_mergekit_has_is_set_in_a_document():
    methods = {content["merge_method"] for content in DOCUMENTS.values()}
    for method in methods:
        given: set[str] = set()
        for content in DOCUMENTS.values():
            given |= content.get("parameters", {}).keys() if content["merge_method"] == method else set()
        assert given >= set(METHODS[method].mergekit or {}), method


def test_the_figures_have_tensors_that_no_model_changed_and_some_that_are_parallel():
    tensors = make_tensors()
    still, twice = "model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.weight"
    assert torch.equal(tensors["base"][still], tensors["one"][still])
    assert torch.equal(tensors["two"][twice], 2.0 * tensors["one"][twice])
