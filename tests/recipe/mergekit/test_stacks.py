"""Stacks of layers: every tensor comes from where mergekit takes it, which `make_figures.py` recorded."""

import json
from pathlib import Path

import pytest
from transformers import MistralConfig, MistralForCausalLM

from evovlm.merging.assembly import assemble
from evovlm.recipe.mergekit import read_mergekit, write_mergekit

HERE = Path(__file__).parent
FIGURES = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("base", "one", "two"):
        config = MistralConfig(
            vocab_size=8,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=FIGURES["layers"],
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        MistralForCausalLM(config).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize("name", sorted(FIGURES["stacks"]))
def test_every_tensor_of_a_stack_comes_from_where_mergekit_takes_it(name: str, models: Path):
    text = (HERE / "stacks" / f"{name}.yml").read_text(encoding="utf-8")
    recipe = read_mergekit(text, models / "merge.yml")
    for told in (recipe, read_mergekit(write_mergekit(recipe), models / "merge.yml")):
        assembly = assemble(told, models)
        origins = {job.name: list(*job.parts) for job in assembly.jobs}
        assert origins == FIGURES["stacks"][name]


def test_configuration_and_tokenizer_of_a_stack_come_from_mergekits_base(models: Path):
    text = (HERE / "stacks" / "donor.yml").read_text(encoding="utf-8")
    assert read_mergekit(text).owner == "one"
    assert "base_model: one" in write_mergekit(read_mergekit(text))
    elsewhere = read_mergekit(text.replace("base_model: one", "base_model: four"))
    assert elsewhere.owner is None
    assert elsewhere.base is not None
    assert elsewhere.base.model == "four"
