"""Pairs of models that fit by shape and differ in what their weights mean: refused, or told; never silent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evovlm.merging.check import check_recipe
from evovlm.models.open_model import open_model
from evovlm.recipe.schema import Recipe
from tests.hub_layouts import make_tokenizer
from tests.merging.test_folding_families import ROWS, SMALL

PLAIN = {"rope_type": "default", "rope_theta": 1e4}
SCALED = PLAIN | {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


def save(folder: Path, kind: str, **config: Any) -> None:
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}Config")(**(SMALL | config))
    getattr(transformers, f"{kind}ForCausalLM")(made).save_pretrained(folder)
    make_tokenizer(ROWS).save_pretrained(folder)


def told(root: Path, **keys: Any) -> dict[str, set[str]]:
    """What the check reports of the source, by level: the settings, without its notes on licence and parameters."""
    content = {"kind": "llm", "base": {"model": "base"}, "sources": [{"name": "s", "model": "source"}]}
    recipe = Recipe.model_validate(content | {"method": "task_arithmetic"} | keys)
    base, source = open_model("base", "base", None, root, is_base=True), open_model("s", "source", None, root)
    found: dict[str, set[str]] = {"error": set(), "warning": set(), "note": set()}
    for finding in check_recipe(recipe, base, [source]):
        if finding.key == "sources.s":  # these random models have the same weights
            continue
        found[finding.level].add(finding.key.removeprefix("sources.s."))
    return found


@pytest.mark.parametrize(
    ("kind", "base", "source", "level", "key"),
    [
        ("Llama", {}, {"attention_bias": True}, "error", "tower"),
        ("Llama", {"attention_bias": True}, {}, "error", "tower"),
        ("Llama", {}, {"mlp_bias": True}, "error", "tower"),
        ("Llama", {}, {"rope_parameters": PLAIN | {"rope_theta": 1e6}}, "warning", "rope_theta"),
        ("Llama", {}, {"rope_parameters": SCALED | {"original_max_position_embeddings": 512}}, "warning", "rope_type"),
        ("Llama", {}, {"rms_norm_eps": 1e-5}, "warning", "rms_norm_eps"),
        ("Llama", {}, {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}, "error", "head_dim"),
        ("Llama", {}, {"tie_word_embeddings": True}, "warning", "tie_word_embeddings"),
        ("Llama", {"tie_word_embeddings": True}, {}, "warning", "tie_word_embeddings"),
        ("Llama", {}, {"eos_token_id": 5}, "warning", "eos_token_id"),
        ("Mistral", {"sliding_window": None}, {"sliding_window": 64}, "warning", "sliding_window"),
        ("Qwen2", {}, WINDOW, "warning", "layer_types"),
        ("Qwen2", WINDOW, WINDOW | {"max_window_layers": 1}, "warning", "layer_types"),
        ("Gemma2", {}, {"layer_types": ["full_attention"] * 2}, "warning", "layer_types"),
        ("Gemma2", {}, {"final_logit_softcapping": None}, "error", "final_logit_softcapping"),
        ("Phi3", {}, {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}, "error", "partial_rotary_factor"),
        ("Phi3", {}, {"partial_rotary_factor": 0.5}, "error", "partial_rotary_factor"),
        ("SmolLM3", {}, {"no_rope_layers": [0, 0]}, "error", "no_rope_layers"),
    ],
)
def test_a_setting_that_differs_is_refused_or_told(
    kind: str, base: dict[str, Any], source: dict[str, Any], level: str, key: str, tmp_path: Path
):
    save(tmp_path / "base", kind, **base)
    save(tmp_path / "source", kind, **source)
    found = told(tmp_path)
    assert key in found[level]
    assert (level == "error") == bool(found["error"])


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma2", "Phi3", "SmolLM3"])
def test_of_equal_models_nothing_is_told(kind: str, tmp_path: Path):
    save(tmp_path / "base", kind)
    save(tmp_path / "source", kind)
    found = told(tmp_path)
    assert not found["error"] | found["warning"]


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def in_tokenizer(change: Callable[[Any], object]) -> Callable[[Path], None]:
    return lambda root: edit(root / "source" / "tokenizer.json", change)


def flags(root: Path) -> None:
    for name, adds in (("base", True), ("source", False)):
        edit(root / name / "tokenizer_config.json", lambda content, adds=adds: content.update(add_bos_token=adds))


def templates(root: Path) -> None:
    (root / "base" / "chat_template.jinja").write_text("{{ messages }}")
    edit(root / "source" / "tokenizer_config.json", lambda content: content.update(chat_template="[{{ messages }}]"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (in_tokenizer(lambda content: content.update(post_processor=None)), "tokenizer"),  # adds no <s>
        (in_tokenizer(lambda content: content.update(normalizer={"type": "Lowercase"})), "tokenizer"),
        (in_tokenizer(lambda content: content["model"]["merges"].reverse()), "tokenizer"),
        (flags, "tokenizer"),
        (templates, "chat_template"),
        (lambda root: (root / "source" / "chat_template.jinja").write_text("x"), "chat_template"),
        (
            lambda root: edit(
                root / "source" / "generation_config.json", lambda content: content.update(eos_token_id=[2, 7])
            ),
            "eos_token_id",
        ),
    ],
)
def test_a_tokenizer_template_or_end_that_differs_is_told(change: Callable[[Path], object], key: str, tmp_path: Path):
    save(tmp_path / "base", "Llama")
    save(tmp_path / "source", "Llama")
    change(tmp_path)
    found = told(tmp_path)
    assert (found["error"], found["warning"]) == (set(), {key})


def test_other_tokens_at_the_same_rows_are_told_where_rows_are_matched_by_position(tmp_path: Path):
    save(tmp_path / "base", "Llama")
    save(tmp_path / "source", "Llama")
    assert "vocab" in told(tmp_path, vocab="position")["note"]
    make_tokenizer(ROWS, order_seed=3).save_pretrained(tmp_path / "source")
    assert "vocab" in told(tmp_path, vocab="position")["warning"]
    assert not told(tmp_path)["warning"]  # by token, they are the same
