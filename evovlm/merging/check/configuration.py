"""Checks a model's configuration against the owner's, where differences change what the weights compute.

Knows config.json and the defaults of its architecture (from transformers; hub files omit many values). Never runs
code from a model repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.open_model import OpenModel

# Errors: with another value the same numbers mean something else (tensors of equal shape would be split into
# different heads).
SHAPING = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
# Warnings: another value changes the function only gradually, and the owner's value is used.
BENDING = ("rope_theta", "rope_type", "rope_scaling", "sliding_window", "rms_norm_eps", "hidden_act", "model_type")
# Where a file comes from and how its weights are stored, not what they compute.
PROVENANCE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_configuration(model: OpenModel, owner: OpenModel, *, stacked: bool = False) -> Iterator[Finding]:
    """Report differing head counts and sizes (errors), rope_theta, sliding window etc. (warnings) and special tokens.

    `stacked`: layers are stacked by slices or a route, so layer counts may differ.
    """
    if _same(model, owner):
        mine = theirs = {}
    else:
        mine, theirs = complete_config(model.text_config), complete_config(owner.text_config)
    for name in (*SHAPING, *(() if stacked else ("num_hidden_layers",))):
        if mine.get(name) != theirs.get(name):
            text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; choose another source"
            yield Finding("error", model_key(model.label, name), text)
    for name in BENDING:
        if mine.get(name) != theirs.get(name):
            text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; the owner's value is used"
            yield Finding("warning", model_key(model.label, name), text)
    name = "max_position_embeddings"
    if mine.get(name) != theirs.get(name):
        text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; the owner's value is used"
        yield Finding("note", model_key(model.label, name), text)
    for name in TOKENS:
        a, b = _token(model, mine.get(name)), _token(owner, theirs.get(name))
        if a != b:
            # A different end token shows in the answers (they may never stop); a different padding token does not.
            level: Any = "warning" if name == "eos_token_id" else "note"
            yield Finding(
                level, model_key(model.label, name), f"{a} in {model.label}, {b} in {owner.label}, which is used"
            )
    if model.layout.kind == "vlm":
        text = f"only its language tower is merged; vision tower and projector come from {owner.label}"
        yield Finding("note", model_key(model.label), text)


def check_own_configuration(model: OpenModel) -> Iterator[Finding]:
    """Report what the user should know about a single model's configuration."""
    if "auto_map" in model.config or "auto_map" in model.text_config:
        text = "config.json refers to code in its repository (auto_map); it is never run, only the tensors are read"
        yield Finding("warning", model_key(model.label, "auto_map"), text)


def _same(model: OpenModel, owner: OpenModel) -> bool:
    """Whether both files say the same: then no defaults are needed, and transformers need not be imported."""
    mine, theirs = (
        {key: value for key, value in one.text_config.items() if key not in PROVENANCE} for one in (model, owner)
    )
    return mine == theirs and model.tokens == owner.tokens


def complete_config(text_config: dict[str, Any]) -> dict[str, Any]:
    """Return a language model's configuration with its architecture's defaults and uniformly named rope settings."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    given = dict(text_config)
    kind = given.get("model_type")
    config = given
    if kind in CONFIG_MAPPING:
        try:
            config = CONFIG_MAPPING[kind](
                **{key: value for key, value in given.items() if key != "model_type"}
            ).to_dict()
        except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError):
            config = given  # a configuration that its own class rejects is compared without defaults
    config = {**config, "model_type": kind}
    rope = config.get("rope_parameters") or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta"))
    config["rope_type"] = rope.get("rope_type", "default")
    scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "rope_type")}
    config["rope_scaling"] = scaling or None
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    if config.get("head_dim") is None and heads and width:
        config["head_dim"] = width // heads
    if config.get("num_key_value_heads") is None:
        config["num_key_value_heads"] = heads
    if config.get("use_sliding_window") is False:
        config["sliding_window"] = None
    return config


def layer_kinds(model: OpenModel) -> list[str] | None:
    """Return full or sliding attention for each layer; None if the architecture has only one kind."""
    kinds: list[str] | None = complete_config(model.text_config).get("layer_types")
    return kinds


def _token(model: OpenModel, row: Any) -> str:
    """A special token as text, so that the same token under another id counts as equal."""
    if row is None:
        return "none"
    rows = row if isinstance(row, list) else [row]
    texts = {value: token for token, value in (model.tokens or {}).items()}
    return " ".join(texts.get(value, f"id {value}") for value in rows)
