"""Whole files of mergekit's, merged and compared in float64 with the formulas and the rules of how its YAML is read.

The rules are written here a second time, as plainly as they can be: levels in order, the first filter that fits,
straight lines between a gradient's points.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import MistralConfig, MistralForCausalLM

from evovlm.merging.assembly import Assembly, assemble
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.mergekit import read_mergekit
from evovlm.system.errors import RecipeError
from tests.float64_reference import Array
from tests.float64_reference import merge as reference

LAYERS = 4
MODELS = ("base", "one", "two")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": LAYERS}
    for seed, name in enumerate(MODELS):
        torch.manual_seed(seed)
        config = MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)
        MistralForCausalLM(config).save_pretrained(folder / name)
    return folder


def value(scopes: list[dict[str, Any]], name: str, tensor: str, t: float) -> float | None:
    """A parameter of one tensor: the most specific level that has a value for it."""
    for scope in scopes:
        found = read(scope.get(name), tensor, t)
        if found is not None:
            return found
    return None


def read(setting: Any, tensor: str, t: float) -> float | None:
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list):
        return None if setting is None else float(setting)
    if not setting:
        return None
    if isinstance(setting[0], dict):
        for case in setting:
            if case.get("filter") in (None, "*") or case["filter"] in tensor:
                return read(case["value"], tensor, t)
        return None
    return float(np.interp(t * (len(setting) - 1), range(len(setting)), setting))


def expected(content: dict[str, Any], tensor: str, tensors: dict[str, Array]) -> Array:
    """What mergekit makes of one tensor."""
    inner = next(iter(content["modules"].values())) if "modules" in content else content
    module = inner.get("parameters", {}) if "modules" in content else {}
    one = [{"sources": [{**model, "layer_range": [0, LAYERS]} for model in inner.get("models", [])]}]
    slices = inner.get("slices") or one
    layer, at = layer_of(tensor), 0.0
    part = slices[0] if "embed" in tensor else slices[-1]
    if layer is not None:
        start = 0
        for part in slices:
            low, high = part["sources"][0]["layer_range"]
            if layer < start + high - low:
                at = (layer - start) / (high - low - 1) if high - low > 1 else 1.0
                break
            start += high - low
    upper = [part.get("parameters", {}), module, content.get("parameters", {})]
    base = part.get("base_model") or inner.get("base_model") or content.get("base_model")
    listed = {source["model"]: source.get("parameters", {}) for source in part["sources"]}
    method = content["merge_method"]
    if method == "slerp":
        share = value(upper, "t", tensor, at)
        other = next(name for name in listed if name != base)
        assert share is not None
        pair = [tensors[base], tensors[other]]
        return reference(
            "slerp", None, pair, [1 - share, share], [None] * 2, [1] * 2, normalize=False, rescale="none"
        ).merged
    used = [name for name in listed if method == "linear" or name != base]
    weights = [value([listed[name], *upper], "weight", tensor, at) for name in used]
    normalize = value(upper, "normalize", tensor, at)
    return reference(
        method,
        tensors.get(base),
        [tensors[name] for name in used],
        [weight for weight in weights if weight is not None],
        [None] * len(used),
        [1.0] * len(used),
        normalize=bool(normalize) if normalize is not None else method in ("linear", "ties"),
        rescale="none",
        lambda_=value(upper, "lambda", tensor, at) or 1.0,
    ).merged


def tensors_of(assembly: Assembly, name: str) -> dict[str, Array]:
    opened = {one.folder.name: one for one in (*assembly.sources.values(), assembly.base) if one is not None}
    return {label: one.checkpoint.tensor(one.tower[name]).double().numpy() for label, one in opened.items()}


TWO = [{"model": "one", "parameters": {"weight": 0.5}}, {"model": "two", "parameters": {"weight": 0.25}}]
BARE = [{"model": "one"}, {"model": "two"}]


def part(span: tuple[int, int], *parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    sources = [
        {"model": name, "layer_range": list(span), "parameters": own}
        for name, own in zip(("one", "two"), parameters or ({}, {}), strict=True)
    ]
    return {"sources": sources, **more}


FILES: dict[str, dict[str, Any]] = {
    "global": {"merge_method": "linear", "models": BARE, "parameters": {"weight": [0.1, 0.9], "normalize": False}},
    "precedence": {
        "merge_method": "task_arithmetic",
        "base_model": "base",
        "models": [
            {"model": "one", "parameters": {"weight": [{"filter": "mlp", "value": [0.2, 0.8, 0.4]}]}},
            {
                "model": "two",
                "parameters": {"weight": [{"filter": "norm", "value": -1.0}, {"filter": "q_proj", "value": 2}]},
            },
        ],
        "parameters": {"weight": [{"filter": "layers.1.", "value": 3.0}, {"value": 0.5}], "lambda": 0.7},
    },
    "module": {
        "merge_method": "linear",
        "modules": {"default": {"models": BARE, "parameters": {"weight": [{"filter": "self_attn", "value": 0.3}]}}},
        "parameters": {"weight": 0.8, "normalize": False, "int8_mask": True},
    },
    "module with a base": {
        "merge_method": "task_arithmetic",
        "modules": {"text": {"models": TWO, "base_model": "base", "parameters": {"lambda": "5e-1"}}},
    },
    "slices": {
        "merge_method": "linear",
        "slices": [
            part((0, 2), {"weight": [0.0, 1.0]}, {"weight": 0.5}, parameters={"normalize": False, "int8_mask": True}),
            part((2, 4), parameters={"weight": [{"filter": "up_proj", "value": 0.9}], "normalize": False}),
        ],
        "parameters": {"weight": 0.25},
    },
    "empty slices": {
        "merge_method": "linear",
        "slices": [
            part((0, 0), {"weight": 1.0}, {"weight": 0.0}),
            part((0, 4), {"weight": 0.5}, {"weight": 0.5}),
            part((4, 4), {"weight": 0.0}, {"weight": 1.0}),
        ],
    },
    "a base in every slice": {
        "merge_method": "task_arithmetic",
        "slices": [part((0, 1), base_model="base"), part((1, 4), base_model="base", parameters={"weight": [1, 0, 1]})],
        "parameters": {"weight": 0.5},
    },
    "equal gradients of a switch": {
        "merge_method": "ties",
        "base_model": "base",
        "models": TWO,
        "parameters": {"normalize": [True, True], "lambda": [{"filter": "*", "value": 0.5}], "rescale": False},
    },
    "an empty list is not set": {
        "merge_method": "linear",
        "models": [{"model": "one", "parameters": {"weight": []}}, {"model": "two"}],
        "parameters": {"weight": 0.25, "normalize": False},
    },
    "slerp": {
        "merge_method": "slerp",
        "base_model": "one",
        "models": [{"model": "two", "parameters": {"t": 0.9}}, {"model": "one"}],
        "parameters": {
            "t": [{"filter": "self_attn", "value": [0, 0.5, 1]}, {"filter": "mlp", "value": [1, 0]}, {"value": 0.5}]
        },
    },
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_merges_as_mergekit_reads_it(name: str, models: Path):
    content = {**FILES[name], "dtype": "float32", "name": "a name changes nothing"}
    recipe = read_mergekit(yaml.safe_dump(content), models / "merge.yml")
    assembly = assemble(recipe, models)
    assert assembly.layers == LAYERS
    for job in assembly.jobs:
        made = assembly.merge(job).double().numpy()
        wanted = expected(content, job.name, tensors_of(assembly, job.name))
        assert np.abs(made - wanted).max() <= 2e-6 * max(1.0, float(np.abs(wanted).max())), job.name


def test_an_empty_slice_of_a_stack_chooses_what_is_outside_the_layers(models: Path):
    def alone(model: str, span: list[int]) -> dict[str, Any]:
        return {"sources": [{"model": model, "layer_range": span}]}

    slices = [alone("two", [0, 0]), alone("one", [0, 2]), alone("base", [4, 4])]
    recipe = read_mergekit(
        yaml.safe_dump({"merge_method": "passthrough", "slices": slices, "dtype": "float32"}), models / "merge.yml"
    )
    assembly = assemble(recipe, models)
    origins = {job.name: job.parts[0][0] for job in assembly.jobs}
    assert assembly.layers == 2
    assert origins["model.embed_tokens.weight"] == "two"
    assert origins["model.norm.weight"] == origins["lm_head.weight"] == "base"
    assert {source for name, source in origins.items() if layer_of(name) is not None} == {"one"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            {"merge_method": "linear", "modules": {"text": {"models": BARE}, "vision": {"models": BARE}}},
            "modules: 2 modules",
        ),
        ({"merge_method": "linear", "modules": {"text": {"model": BARE}}}, r"modules\.text\.model: unknown key"),
        (
            {"merge_method": "linear", "modules": {"text": {"models": [{"modle": "one"}]}}},
            r"modules\.text\.models\.0\.modle",
        ),
        (
            {"merge_method": "linear", "modules": {"t": {"models": BARE, "parameters": {"wait": 1}}}},
            r"modules\.t\.parameters\.wait",
        ),
        ({"merge_method": "linear", "slices": [part((2, 2))]}, "slices: they have no layers"),
        ({"merge_method": "linear", "slices": [part((3, 2))]}, r"slices\.0\.sources\.0\.layer_range"),
        (
            {"merge_method": "ties", "slices": [part((0, 2), base_model="base"), part((2, 4))]},
            r"slices\.1\.base_model: none",
        ),
        (
            {
                "merge_method": "linear",
                "slices": [part((0, 2), parameters={"normalize": False}), part((2, 4))],
                "parameters": {"weight": 1},
            },
            r"parameters\.normalize",
        ),
        (
            {"merge_method": "linear", "models": TWO, "parameters": {"normalize": [{"filter": "mlp", "value": True}]}},
            "normalize",
        ),
        (
            {"merge_method": "linear", "models": TWO, "parameters": {"lambda": [0.5, 1.0]}},
            "one lambda for the whole merge",
        ),
        ({"gate_mode": "hidden", "experts": [], "base_model": "one"}, "mergekit-moe"),
        ({"genome": {"models": ["one"]}, "tasks": []}, "mergekit-evolve"),
    ],
)
def test_what_cannot_be_expressed_is_one_sentence_with_its_place(content: dict[str, Any], told: str, models: Path):
    with pytest.raises(RecipeError, match=told) as caught:
        read_mergekit(yaml.safe_dump({**content, "dtype": "float32"}), models / "merge.yml")
    assert str(caught.value).startswith(f"{models / 'merge.yml'}:")
    assert "\n" not in str(caught.value)
