"""Stacks of layers: every tensor comes from where mergekit takes it, which `make_figures.py` recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import MistralConfig, MistralForCausalLM

from evovlm.merging.assembly import assemble
from evovlm.recipe.mergekit import read_mergekit, write_mergekit
from evovlm.system.errors import RecipeError

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


def sliced(method: str, *slices: dict[str, list[int]], **more: Any) -> str:
    """A merge in slices: each of them a layer range per model. The base is listed where it takes part."""
    content = {
        "merge_method": method,
        "slices": [{"sources": [{"model": name, "layer_range": span} for name, span in one.items()]} for one in slices],
        "dtype": "float32",
        "parameters": {"model_stock": {}, "slerp": {"t": 0.5}}.get(method, {"weight": 0.5}),
    }
    return str(yaml.safe_dump(content | ({} if method == "linear" else {"base_model": "base"}) | more))


LAYERS = FIGURES["layers"]
PAIRS = {"linear": ("one", "two"), "ties": ("one", "two"), "model_stock": ("one", "two"), "slerp": ("base", "one")}


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ([(0, LAYERS - 1)], f"slices: they have {LAYERS - 1} layers and the models {LAYERS}; .* end at {LAYERS}"),
        ([(0, LAYERS + 1)], f"slices: they have {LAYERS + 1} layers and the models {LAYERS}"),
        ([(0, 1), (0, 1), (1, LAYERS - 1)], r"slices.1.sources: layers of \w+ start at 0, the output's at 1"),
        ([(0, 1), (2, LAYERS)], r"slices.1.sources: layers of \w+ start at 2, the output's at 1"),
        ([(1, LAYERS), (0, 1)], r"slices.0.sources: layers of \w+ start at 1, the output's at 0"),
    ],
)
def test_slices_that_do_not_merge_every_layer_in_place_are_refused(
    method: str, spans: list[tuple[int, int]], told: str, models: Path
):
    text = sliced(method, *({name: list(span) for name in PAIRS[method]} for span in spans))
    with pytest.raises(RecipeError, match=told):
        read_mergekit(text, models / "merge.yml")


@pytest.mark.parametrize("method", PAIRS)
def test_slices_of_every_layer_merge_the_whole_model(method: str, models: Path):
    text = sliced(method, *({name: [low, low + 1] for name in PAIRS[method]} for low in range(LAYERS)))
    recipe = read_mergekit(text, models / "merge.yml")
    assembly = assemble(recipe, models)
    assert {job.group for job in assembly.jobs} == {"whole"}
    assert assembly.layers == LAYERS


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize("layers", [LAYERS - 1, LAYERS + 1])
def test_slices_of_models_that_are_not_at_hand_are_compared_when_these_are_opened(
    method: str, layers: int, models: Path, tmp_path: Path
):
    text = sliced(method, {name: [0, layers] for name in PAIRS[method]})
    recipe = read_mergekit(text, tmp_path / "merge.yml")
    with pytest.raises(RecipeError, match=r"groups: .*layers"):
        assemble(recipe, models)


def test_ranges_of_different_length_in_a_slice_are_refused(models: Path):
    with pytest.raises(RecipeError, match=r"slices.0.sources: layer ranges differ in length"):
        read_mergekit(sliced("linear", {"one": [0, 2], "two": [0, 1]}), models / "merge.yml")


def test_a_scale_of_one_slice_is_refused_as_that_of_a_model_is():
    text = sliced("passthrough", {"one": [0, 1]}, parameters={})
    content = yaml.safe_load(text)
    content["slices"][0]["parameters"] = {"scale": 0.5}
    with pytest.raises(RecipeError, match=r"parameters.scale: evovlm's passthrough copies layers unscaled"):
        read_mergekit(yaml.safe_dump(content))
