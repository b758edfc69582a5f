"""A text model merged into the tower of every family: against float64, with nothing else of the model touched."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.models.loading import load_reporting
from evovlm.recipe.schema import Recipe
from tests.command import evovlm_here
from tests.hub_layouts import FEW_TOKENS, make_tokenizer
from tests.vlm_families import OTHER_TOWERS, PARAMETERS, UNASKED, save_family

WEIGHT = 0.6


def save_text(folder: Path, tower: Any, kind: str, seed: int, tokenizer: Any, **settings: Any) -> None:
    """A text model of the tower's shapes: its weights and a step of its own."""
    own = tower.to_dict() | {"model_type": kind} | settings
    own["num_hidden_layers"] -= len(own.pop("cross_attention_layers", ()))
    if "mrope_section" in (own.get("rope_parameters") or {}):
        own["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6}
    config = transformers.CONFIG_MAPPING[kind](**{key: value for key, value in own.items() if key != "model_type"})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def canonical(key: str, between: Sequence[int] = ()) -> str:
    """A key of any family's file as a plain text model has it. between: layers that a text model lacks."""
    layer = re.search(r"language_model\.model\.layers\.(\d+)\.", key)
    if layer is not None and int(layer[1]) in between:
        return key
    if layer is not None:
        earlier = sum(index < int(layer[1]) for index in between)
        key = key.replace(f".layers.{layer[1]}.", f".layers.{int(layer[1]) - earlier}.")
    for prefix in ("language_model.model.", "model.language_model.", "model.text_model."):
        if key.startswith(prefix):
            return "model." + key.removeprefix(prefix)
    return key.removeprefix("language_model.")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in (*UNASKED, *OTHER_TOWERS)]


@pytest.mark.parametrize("name", [*PARAMETERS, *SLOW])
def test_a_merge_is_right_and_touches_nothing_else(name: str, tmp_path: Path):
    made = save_family(name, tmp_path / "vlm")
    tower = made.model.config.text_config
    tokenizer = made.processor if name in UNASKED else made.processor.tokenizer
    for seed, source in enumerate(("ja", "base")):
        save_text(tmp_path / source, tower, made.tower, seed, tokenizer)
    recipe = {
        "kind": "vlm",
        "base": {"model": "base"},
        "sources": [{"name": "vlm", "model": "vlm"}, {"name": "ja", "model": "ja"}],
        "owner": "vlm",
        "method": "task_arithmetic",
        "dtype": "float32",
        "parameters": {"vlm": {"weight": 1.0}, "ja": {"weight": WEIGHT}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    # That the other families are asked is tested with the engines.
    words = () if name in UNASKED else ("--no-ask",)
    checked = evovlm_here("recipe", "check", "recipe.yaml", *words, folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert ("cannot ask it yet" in " ".join(checked.stdout.split())) == (name in UNASKED)
    done = evovlm_here("merge", "recipe.yaml", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr

    before, after = (load_file(tmp_path / where / "model.safetensors") for where in ("vlm", "out"))
    assert before.keys() == after.keys()
    ja, base = (load_file(tmp_path / where / "model.safetensors") for where in ("ja", "base"))
    rows = len(tokenizer)  # further rows are padding, which is carried over
    merged = set()
    for key, was in before.items():
        name = canonical(key, getattr(tower, "cross_attention_layers", ()))
        if name not in ja:
            assert torch.equal(after[key], was), f"{key} was changed"
            continue
        merged.add(name)
        part = slice(rows if name in VOCABULARY_TENSORS else None)
        expected = was.double()
        expected[part] += WEIGHT * (ja[name].double() - base[name].double())[part]
        assert torch.allclose(after[key].double(), expected, rtol=0, atol=4e-6), key
    assert merged == set(ja)
    kind = transformers.AutoModelForImageTextToText
    _, report = load_reporting(kind, tmp_path / "out")
    assert not report.in_words()
    assert not report.beside


@pytest.mark.parametrize("rows", [FEW_TOKENS, pytest.param(None, marks=pytest.mark.slow)], ids=["shorter", "untrained"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", pytest.param("internvl3", marks=pytest.mark.slow)])
def test_rows_of_image_tokens_stay_the_vlm_s_where_text_models_lack_the_tokens(
    name: str, rows: int | None, tmp_path: Path
):
    """As on the hub: a text model's table ends before them, or has rows there that no token has trained."""
    made = save_family(name, tmp_path / "vlm")
    tower, settings = made.model.config.text_config, {} if rows is None else {"vocab_size": rows}
    for seed, source in enumerate(("ja", "base")):
        save_text(tmp_path / source, tower, made.tower, seed, make_tokenizer(), **settings)
    assert made.model.config.image_token_id >= FEW_TOKENS
    shared = {
        "kind": "vlm",
        "sources": [{"name": "vlm", "model": "vlm"}, {"name": "ja", "model": "ja"}],
        "owner": "vlm",
        "vocab": "match",
        "dtype": "float32",
    }
    weights = {"vlm": {"weight": 1.0}, "ja": {"weight": WEIGHT}}
    ways: dict[str, dict[str, Any]] = {
        "task_arithmetic": {"base": {"model": "base"}, "parameters": weights},
        "linear": {"parameters": weights | {"vlm": {"weight": 1 - WEIGHT}}},
    }
    read = {source: load_file(tmp_path / source / "model.safetensors") for source in ("vlm", "ja", "base")}
    for method, more in ways.items():
        recipe = Recipe.model_validate(shared | {"method": method} | more)
        build_checkpoint(assemble(recipe, tmp_path), tmp_path / method)
        after = load_file(tmp_path / method / "model.safetensors")
        tables = {key: name for key in after if (name := canonical(key)) in VOCABULARY_TENSORS}
        assert set(tables.values()) == set(VOCABULARY_TENSORS)
        for key, table in tables.items():
            own, ja, base = read["vlm"][key], read["ja"][table][:FEW_TOKENS], read["base"][table][:FEW_TOKENS]
            assert torch.equal(after[key][FEW_TOKENS:], own[FEW_TOKENS:]), f"{method}: {key}"
            words = own[:FEW_TOKENS].double()
            step = ja.double() - (base if method == "task_arithmetic" else words)
            assert torch.allclose(after[key][:FEW_TOKENS].double(), words + WEIGHT * step, rtol=0, atol=4e-6), key
