import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evovlm.models.open_model import open_model
from evovlm.recipe.layer_groups import grouping
from evovlm.recipe.mergekit import looks_like_mergekit, read_mergekit, write_mergekit
from evovlm.recipe.schema import Recipe, value_at
from evovlm.system.errors import RecipeError

HERE = Path(__file__).parent
FIGURES = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
LAYERS = 6
SUFFIXES = (
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
    *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
    *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    "self_attn.q_proj.bias",
)
TENSORS = (
    "model.embed_tokens.weight",
    *(f"model.layers.{layer}.{suffix}" for layer in range(LAYERS) for suffix in SUFFIXES),
    "model.norm.weight",
    "lm_head.weight",
)
TWO = """\
merge_method: ties
base_model: org/base
models:
  - model: org/one
    parameters: {weight: 0.5, density: 0.4}
  - model: org/two@abc123
    parameters: {weight: 1.0}
dtype: bfloat16
"""


def parameters(recipe: Recipe, tensor: str, layers: int = LAYERS) -> dict[str, tuple[float, float]]:
    """What a recipe says about one tensor: weight and density a source."""
    group = grouping(recipe.groups, layers)(tensor)
    own = {name: recipe.of(name) for name in recipe.source_names}
    return {name: (value_at(p.weight, group, 1.0), value_at(p.density, group, 1.0)) for name, p in own.items()}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Folders with the configurations that gradients need the depth from."""
    for name in ("base", "one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"num_hidden_layers": LAYERS, "dtype": "float16"}))
    return tmp_path


@pytest.mark.parametrize("name", sorted(FIGURES["figures"]))
def test_every_tensor_gets_the_parameters_that_mergekit_gives_it(name: str, models: Path):
    text = (HERE / "figures" / f"{name}.yml").read_text(encoding="utf-8")
    recipe = read_mergekit(text, models / "merge.yml")
    for tensor, theirs in FIGURES["figures"][name].items():
        ours = parameters(recipe, tensor)
        for model, wanted in theirs.items():
            if model not in ours:
                assert wanted == {}, "only a base without parameters may be missing"
                continue
            at = wanted.get("t", 0.0)
            expected = wanted.get("weight", at if model == "two" else 1 - at)
            weight, density = ours[model]
            assert weight == pytest.approx(expected, abs=1e-12), tensor
            assert density == pytest.approx(wanted.get("density", 1.0), abs=1e-12), tensor


@pytest.mark.parametrize("name", sorted(FIGURES["figures"]))
def test_a_mergekit_recipe_survives_the_way_there_and_back(name: str, models: Path):
    text = (HERE / "figures" / f"{name}.yml").read_text(encoding="utf-8")
    recipe = read_mergekit(text, models / "merge.yml")
    again = read_mergekit(write_mergekit(recipe), models / "merge.yml")
    assert again.model_dump(exclude={"groups", "parameters", "base"}) == recipe.model_dump(
        exclude={"groups", "parameters", "base"}
    )
    for tensor in TENSORS:
        there, back = parameters(recipe, tensor), parameters(again, tensor)
        if recipe.method == "slerp":
            there = {key: (value[0] / sum(v[0] for v in there.values()), 1.0) for key, value in there.items()}
        for source, values in there.items():
            assert back[source] == pytest.approx(values), (tensor, source)


def test_layers_that_no_filter_names_stay_outside_of_a_run_of_equal_ones():
    text = TWO.replace(
        "{weight: 0.5, density: 0.4}",
        """
      weight:
        - {filter: model.layers.1., value: 0.25}
        - {filter: model.layers.3., value: 0.25}
        - value: 0.75""",
    )
    recipe = read_mergekit(text)
    read = [parameters(recipe, f"model.layers.{layer}.mlp.up_proj.weight")["one"][0] for layer in range(LAYERS)]
    assert read == [0.75, 0.25, 0.75, 0.25, 0.75, 0.75]


weights = st.floats(-2, 2, allow_nan=False).map(lambda value: round(value, 3))
densities = st.floats(0, 1).map(lambda value: round(value, 3))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 4, 6]))
def test_our_blocks_of_layers_survive_the_way_there_and_back(data: st.DataObject, blocks: int):
    edges = [round(index * LAYERS / blocks) for index in range(blocks + 1)]
    names = [
        "embeddings",
        *(f"layers {low}-{high - 1}" for low, high in pairwise(edges)),
        "head",
    ]
    chosen = {
        name: {
            "weight": data.draw(st.dictionaries(st.sampled_from(names), weights, min_size=1)),
            "density": data.draw(st.dictionaries(st.sampled_from(names), densities, min_size=1) | densities),
        }
        for name in ("one", "two")
    }
    recipe = Recipe.model_validate(
        {
            "kind": "llm",
            "base": {"model": "org/base"},
            "sources": [{"name": "one", "model": "org/one"}, {"name": "two", "model": "org/two"}],
            "method": "dare_ties",
            "groups": blocks,
            "parameters": chosen,
        }
    )
    again = read_mergekit(write_mergekit(recipe))
    for tensor in TENSORS:
        assert parameters(again, tensor) == parameters(recipe, tensor), tensor


def test_globs_that_are_parts_of_names_become_filters():
    groups = {"late": ("layers 4-5",), "mlp": ("*.mlp.*",), "rest": ("*",)}
    recipe = read_mergekit(TWO).model_copy(update={"groups": groups})
    own = recipe.of("one").model_copy(update={"weight": {"late": 0.1, "mlp": 0.2, "rest": 0.3}})
    recipe = recipe.model_copy(update={"parameters": {"one": own}})
    again = read_mergekit(write_mergekit(recipe))
    for tensor in TENSORS:
        assert parameters(again, tensor) == parameters(recipe, tensor), tensor


def test_mergekit_is_recognised_by_its_key():
    assert looks_like_mergekit(yaml.safe_load(TWO))
    assert not looks_like_mergekit({"method": "ties"})


def test_models_become_named_sources_and_the_base_stays_out():
    recipe = read_mergekit(TWO)
    assert recipe.base is not None
    assert recipe.base.model == "org/base"
    assert [(s.name, s.model, s.revision) for s in recipe.sources] == [
        ("one", "org/one", None),
        ("two", "org/two", "abc123"),
    ]
    assert recipe.vocab == "same"
    assert recipe.groups == "whole"
    assert recipe.of("one").density == 0.4


def test_models_of_one_name_get_names_of_their_own():
    recipe = read_mergekit(TWO.replace("org/two@abc123", "other/one"))
    assert recipe.source_names == ("one", "one-2")


def test_rescale_true_is_rescaling_by_l1():
    assert read_mergekit(TWO + "parameters: {rescale: true}\n").options.rescale == "l1"
    assert read_mergekit(TWO + "parameters: {rescale: false}\n").options.rescale == "none"
    assert read_mergekit(TWO).options.rescale is None


def test_the_tokenizer_of_a_source_makes_it_the_owner():
    recipe = read_mergekit(TWO + "tokenizer_source: org/one\n")
    assert (recipe.owner, recipe.vocab) == ("one", "match")
    assert read_mergekit(TWO + "tokenizer: {source: org/one}\n").owner == "one"


def test_an_int8_mask_is_ignored_and_told(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        read_mergekit(TWO + "parameters: {int8_mask: true}\n")
    assert "int8_mask" in caplog.text


def test_layers_can_be_stacked():
    text = """\
merge_method: passthrough
slices:
  - sources: [{model: a/x, layer_range: [0, 4]}]
  - sources: [{model: a/y, layer_range: [2, 5]}]
  - sources: [{model: a/x, layer_range: [4, 6]}]
dtype: float16
"""
    recipe = read_mergekit(text)
    assert [(part.source, part.layers) for part in recipe.slices] == [("x", (0, 4)), ("y", (2, 5)), ("x", (4, 6))]
    assert recipe.owner == "x"
    assert read_mergekit(write_mergekit(recipe)).slices == recipe.slices


def assert_told(text: str, *parts: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_mergekit(text, Path("their.yml"))
    for part in ("their.yml", *parts):
        assert part in str(caught.value)


GRADIENT = "{weight: [0, 1]}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (TWO.replace("ties", "frankenstein"), ["merge_method", "frankenstein", "dare_ties"]),
        (TWO + "modules: {}\n", ["modules", "give one of models"]),
        (TWO.replace("models:", "modules: {a: {}, b: {}}\nmodels_:"), ["models_"]),
        (TWO + "tokenizer_source: union\n", ["tokenizer_source", "union", "on this machine"]),
        (TWO + "tokenizer_source: base\ntokenizer: {source: base}\n", ["tokenizer_source", "keep one"]),
        (TWO + "tokenizer: {source: base, tokens: {x: {source: org/one}}}\n", ["tokenizer.tokens"]),
        (TWO + "tokenizer_source: org/none\n", ["tokenizer_source", "org/none"]),
        (TWO + "chat_template: auto\n", ["chat_template", "on this machine"]),
        (TWO + "chat_template: chatlm\n", ["chat_template", "chatlm", "chatml", "Jinja"]),
        (TWO + "chat_template: 3\n", ["chat_template", "3", "auto"]),
        (TWO + "models_: []\n", ["models_", "unknown key"]),
        (TWO + "parameters: {wieght: 1}\n", ["parameters.wieght"]),
        (TWO + "parameters: {normalize: [0.0, 1.0]}\n", ["parameters.normalize"]),
        (TWO.replace("weight: 0.5,", ""), ["parameters.weight", "org/one"]),
        (TWO.replace("{weight: 1.0}", "{weight: heavy}"), ["parameters.weight", "heavy"]),
        (TWO.replace("org/one", "org/one+org/lora"), ["models.0.model", "LoRA"]),
        (TWO.replace("org/two@abc123", "org/one"), ["models.1.model", "twice"]),
        (TWO.replace("dtype: bfloat16", "dtype: float64"), ["dtype", "float32"]),
        (TWO.replace("dtype: bfloat16\n", ""), ["dtype"]),
        (TWO.replace("base_model: org/base\n", ""), ["base_model", "ties"]),
        (TWO.replace("{weight: 1.0}", GRADIENT), ["gradient", "layer_range"]),
        (TWO.replace("{weight: 1.0}", "{weight: 1.0, epsilon: 0.1}") + "parameters: {epsilon: 0.2}\n", ["epsilon"]),
        (TWO.replace("models:", "models: [").replace("dtype", "dtype"), ["YAML"]),
    ],
)
def test_what_cannot_be_read_is_told_with_its_key(text: str, parts: list[str]):
    assert_told(text, *parts)


def test_layers_of_different_height_are_told():
    own = [{"model": "a/x", "layer_range": [0, 2]}, {"model": "a/y", "layer_range": [1, 3]}]
    content = {"merge_method": "linear", "slices": [{"sources": own}], "parameters": {"weight": 1}, "dtype": "float16"}
    assert_told(yaml.safe_dump(content), "slices.0.sources", "a/y", "passthrough")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"kind": "vlm", "owner": "one"}, "kind"),
        ({"method": "magnitude"}, "method"),
        ({"vocab": "tower"}, "vocab"),
        ({"options": {"rescale": "inverse"}}, "options.rescale"),
        ({"method": "della", "options": {"rescale": "per_element"}}, "options.rescale: .*own keep-probability"),
        ({"groups": {"odd": ["model.*.mlp.[du]*"], "rest": ["*"]}}, "groups.odd"),
    ],
)
def test_what_mergekit_cannot_say_is_told_with_its_key(change: dict[str, Any], part: str):
    recipe = read_mergekit(TWO)
    grouped = {"one": {"weight": {"odd": 0.5, "embeddings": 0.1}}}
    content = recipe.model_dump(by_alias=True) | {"parameters": grouped} | change
    with pytest.raises(RecipeError, match=part):
        write_mergekit(Recipe.model_validate(content))


def test_a_linear_base_takes_part_as_mergekit_has_it():
    recipe = read_mergekit(TWO.replace("ties", "linear") + "parameters: {weight: 0.25}\n")
    assert recipe.source_names == ("one", "two", "base")
    assert recipe.of("base").weight == 0.25


def filtered(text: str, models: dict[str, Path]) -> Recipe:
    """A slerp of two models whose t is 1 for the filter and 0.3 elsewhere."""
    named = "\n".join(f"  - model: {models[name]}" for name in ("a", "b"))
    return read_mergekit(
        f"merge_method: slerp\nbase_model: {models['a']}\nmodels:\n{named}\ndtype: float32\n"
        f"parameters:\n  t:\n    - {{filter: '{text}', value: 1.0}}\n    - value: 0.3\n"
    )


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Two models each of families with tensors of their own: query norms, more norms, fused tensors, experts."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from tests.hub_layouts import make_tokenizer

    small: dict[str, Any] = {"vocab_size": 600, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": None}
    found: dict[str, dict[str, Path]] = {}
    for kind in ("qwen3", "gemma2", "phi3", "mixtral"):
        experts = {"num_local_experts": 2} if kind == "mixtral" else {}
        found[kind] = {}
        for seed, name in enumerate("ab"):
            torch.manual_seed(seed)
            folder = tmp_path_factory.mktemp(kind) / name
            AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**small, **experts)).save_pretrained(folder)
            make_tokenizer(600).save_pretrained(folder)
            found[kind][name] = folder
    return found


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("qwen3", text) for text in ("q_norm", "norm", "layers.1.self_attn.k_norm", "model.norm", ".weight")),
        *(("gemma2", text) for text in ("pre_feedforward", "post_feedforward_layernorm", "mlp")),
        *(("phi3", text) for text in ("qkv_proj", "gate_up")),
        *(("mixtral", text) for text in ("experts.1.", "gate.weight", "w2")),
    ],
)
def test_a_filter_on_any_tensors_name_takes_effect(families: dict[str, dict[str, Path]], kind: str, text: str):
    made = filtered(text, families[kind])
    opened = open_model("a", str(families[kind]["a"]), None, Path())
    group_of = grouping(made.groups, 2)
    second = made.of(made.source_names[1]).weight
    touched = [name for name in opened.tower if text in name]
    assert touched
    for name in opened.tower:
        assert value_at(second, group_of(name), 1.0) == (1.0 if name in touched else 0.3), name


def test_a_filter_that_fits_no_tensor_is_refused_by_its_name(families: dict[str, dict[str, Path]]):
    with pytest.raises(RecipeError, match=r"the filter 'q_nrom' is part of no tensor's name; correct it"):
        filtered("q_nrom", families["qwen3"])
    with pytest.raises(RecipeError, match=r"the filter 'layers.2.' is part of no tensor's name; correct it"):
        filtered("layers.2.", families["qwen3"])
    filtered("lm_head", families["gemma2"])  # tied there, but nobody is misled


@pytest.mark.parametrize(
    ("text", "fits"), [("layers.0.", True), ("layers.1.", False), ("mlp", True), ("lm_head", True)]
)
def test_a_filter_of_a_slice_must_fit_a_tensor_of_the_slice(
    families: dict[str, dict[str, Path]], text: str, fits: bool
):
    weight = [{"filter": text, "value": 1}, {"value": 0.1}]
    first, second = (str(families["qwen3"][name]) for name in "ab")
    content = {
        "merge_method": "linear",
        "dtype": "float32",
        "slices": [
            {
                "sources": [
                    {"model": first, "layer_range": [0, 1], "parameters": {"weight": weight}},
                    {"model": second, "layer_range": [0, 1], "parameters": {"weight": 1}},
                ]
            },
            {
                "sources": [{"model": model, "layer_range": [1, 2]} for model in (first, second)],
                "parameters": {"weight": 0.5},
            },
        ],
    }
    if fits:
        assert read_mergekit(yaml.safe_dump(content)).method == "linear"
    else:
        with pytest.raises(RecipeError, match=r"layers\.1\.' fits no tensor of slices\.0, which has the layers 0 to 0"):
            read_mergekit(yaml.safe_dump(content))


def test_without_a_model_at_hand_a_filter_on_unheard_of_tensors_asks_for_one():
    absent = {name: Path(f"owner/{name}") for name in "ab"}
    with pytest.raises(RecipeError, match=r"the filter 'router_bias' .* no model is on this machine"):
        filtered("router_bias", absent)
    filtered("layers.31.self_attn", absent)


@pytest.mark.parametrize(
    ("text", "tensor"),
    [
        ("pre_feedforward_layernorm", "pre_feedforward_layernorm.weight"),
        ("q_norm", "self_attn.q_norm.weight"),
        ("qkv_proj", "self_attn.qkv_proj.weight"),
        ("gate_up_proj", "mlp.gate_up_proj.weight"),
        ("block_sparse_moe.experts.11.w1", "block_sparse_moe.experts.11.w1.weight"),
    ],
)
def test_without_a_model_at_hand_filters_know_the_tensors_of_other_families(text: str, tensor: str):
    made = filtered(text, {name: Path(f"owner/{name}") for name in "ab"})
    group_of = grouping(made.groups, 40)
    second = made.of(made.source_names[1]).weight
    for layer in (0, 39):
        assert value_at(second, group_of(f"model.layers.{layer}.{tensor}"), 1.0) == 1.0
        assert value_at(second, group_of(f"model.layers.{layer}.self_attn.o_proj.weight"), 1.0) == 0.3
