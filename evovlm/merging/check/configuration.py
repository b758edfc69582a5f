"""Checks a model's configuration against the owner's, where differences change what the weights compute.

Knows config.json and the defaults of its architecture (from transformers; hub files omit many values). Never runs
code from a model repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.configuration import CONFIG
from evovlm.models.library_faults import explained
from evovlm.models.open_model import OpenModel
from evovlm.models.surroundings import PROVENANCE
from evovlm.system.errors import CheckpointError

# Errors: with another value the same numbers mean something else (tensors of equal shape would be split into
# different heads).
SHAPING = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
# Errors too: shapes agree, but the weights were trained for another function.
FUNCTION = (
    *("hidden_act", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"),
    *("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"),
    *("partial_rotary_factor", "use_bidirectional_attention", "num_experts_per_tok", "norm_topk_prob"),
)
# Warnings: another value changes the function only gradually, and the owner's value is used.
BENDING = ("rope_theta", "rope_type", "rope_scaling", "sliding_window", "rms_norm_eps")
# Of each layer, compared where layers keep their places: a warning and an error.
KINDS_OF_ATTENTION = "layer_types"
WITHOUT_ROPE = "no_rope_layers"
# Architectures that compute the same function from the same weights. (Multimodal rope reduces to plain rope for text.)
ALIKE = (
    {"llama", "mistral"},
    {"qwen2", "qwen2_vl_text", "qwen2_5_vl_text"},
    {"qwen3", "qwen3_vl_text"},
    {"qwen3_moe", "qwen3_vl_moe_text"},
)
ROTATED = "partial_rotary_factor"
# Which dimensions of a head turn with a token's place in a picture: for text, all places are the same.
MULTIMODAL = ("mrope_section", "mrope_interleaved")
# Names of one and the same activation.
ACTIVATIONS = {"swish": "silu", "gelu_new": "gelu_pytorch_tanh", "gelu_fast": "gelu_pytorch_tanh"}
# Settings that do not change what a model computes, or that are compared elsewhere: as tensors, rows or rope.
ELSEWHERE = {
    *("tie_word_embeddings", "vocab_size", "max_position_embeddings", "original_max_position_embeddings"),
    *("rope_parameters", "layer_types", "max_window_layers", "use_sliding_window", "attention_bias", "mlp_bias"),
    *("hidden_activation", "num_hidden_layers", "initializer_range", "use_cache", "pretraining_tp"),
    *("output_router_logits", "router_aux_loss_coef", "router_jitter_noise"),
}
# Settings by which a layer depends on its place among the others, or on tensors outside of it (Gemma 3n, Gemma 4).
PLACED = {
    "num_kv_shared_layers": "its last layers take keys and values from layers before them",
    "hidden_size_per_layer_input": "its embeddings have a part for each layer",
    "per_layer_config": "it gives some of its layers, by number, settings of their own",
}
# How a projector takes the vision tower's features.
PROJECTING = ("vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_configuration(model: OpenModel, owner: OpenModel, *, stacked: bool = False) -> Iterator[Finding]:
    """Report other sizes, architectures and activations (errors), rope, epsilon etc. (warnings), special tokens.

    `stacked`: layers are stacked by slices or a route, so layer counts may differ.
    """
    if _same(model, owner):
        mine = theirs = {}
    else:
        mine, theirs = complete_config(model.text_config), complete_config(owner.text_config)
    for name in (*SHAPING, *(() if stacked else ("num_hidden_layers",))):
        if mine.get(name) != theirs.get(name):
            text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; choose another source"
            yield Finding("error", model_key(model, name), text)
    yield from _architecture(model, owner, mine.get("model_type"), theirs.get("model_type"))
    for name in (*FUNCTION, *(() if stacked else (WITHOUT_ROPE,))):
        if mine.get(name) != theirs.get(name):
            text = (
                f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}: its weights were trained for"
                " another function; choose another source"
            )
            yield Finding("error", model_key(model, name), text)
    if not stacked and _kinds(mine) != _kinds(theirs):
        name = KINDS_OF_ATTENTION
        text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; the owner's value is used"
        yield Finding("warning", model_key(model, name), text)
    for name in (*BENDING, *_other_settings(mine, theirs)):
        if mine.get(name) != theirs.get(name):
            text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; the owner's value is used"
            yield Finding("warning", model_key(model, name), text)
    name = "max_position_embeddings"
    if mine.get(name) != theirs.get(name):
        text = f"{mine.get(name)} in {model.label}, {theirs.get(name)} in {owner.label}; the owner's value is used"
        yield Finding("note", model_key(model, name), text)
    yield from _special_tokens(model, owner, mine, theirs)
    yield from _vision(model, owner)


def _kinds(config: dict[str, Any]) -> Any:
    """The kinds of attention of the layers; without a list, every layer sees all."""
    kinds = config.get(KINDS_OF_ATTENTION)
    plain = isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds)
    return None if plain else kinds


def _special_tokens(
    model: OpenModel, owner: OpenModel, mine: dict[str, Any], theirs: dict[str, Any]
) -> Iterator[Finding]:
    for name in TOKENS:
        a, b = _token(model, mine.get(name)), _token(owner, theirs.get(name))
        if a == b and name == "eos_token_id":
            a, b = _token(model, _ends(model, mine)), _token(owner, _ends(owner, theirs))
        if a != b:
            # A different end token shows in the answers (they may never stop); a different padding token does not.
            level: Any = "warning" if name == "eos_token_id" else "note"
            yield Finding(level, model_key(model, name), f"{a} in {model.label}, {b} in {owner.label}, which is used")


def _vision(model: OpenModel, owner: OpenModel) -> Iterator[Finding]:
    """Report vision parts that compute another function where they are merged too, or else that they are not."""
    if not (model.whole and owner.whole):
        if model.layout.kind == "vlm":
            text = f"only its language tower is merged; vision tower and projector come from {owner.label}"
            yield Finding("note", model_key(model), text)
        return
    mine, theirs = (
        {**(config.get("vision_config") or {}), **{name: config.get(name) for name in ("model_type", *PROJECTING)}}
        for config in (model.config, owner.config)
    )
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in (*PROVENANCE, "torch_dtype") and mine.get(name) != theirs.get(name):
            text = (
                f"{mine.get(name)} in {model.label}'s vision part, {theirs.get(name)} in {owner.label}'s; whole models"
                " can be merged only within one family: choose another source, or merge the language towers alone"
            )
            yield Finding("error", model_key(model, name), text)


def _architecture(model: OpenModel, owner: OpenModel, mine: Any, theirs: Any) -> Iterator[Finding]:
    """Report another architecture: an error unless it computes the same function, or transformers does not know it."""
    if mine == theirs:
        return
    key, differ = model_key(model, "model_type"), f"{mine} in {model.label}, {theirs} in {owner.label}"
    if any({mine, theirs} <= family for family in ALIKE):
        yield Finding("note", key, f"{differ}; both compute the same function of a text")
    elif _is_known(mine) and _is_known(theirs):
        text = f"{differ}: the same weights mean something else in another architecture; choose another source"
        yield Finding("error", key, text)
    else:
        yield Finding("warning", key, f"{differ}; make sure that both compute the same function")


def _is_known(kind: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING


def _other_settings(*configs: dict[str, Any]) -> list[str]:
    """The settings that the configurations' classes declare and that no list above names."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    kinds = [CONFIG_MAPPING[kind] for config in configs if (kind := config.get("model_type")) in CONFIG_MAPPING]
    declared = {name for kind in kinds for name in getattr(kind, "__dataclass_fields__", {})}
    known = {*SHAPING, *FUNCTION, WITHOUT_ROPE, *BENDING, *TOKENS, *PROVENANCE, *ELSEWHERE, "model_type"}
    general = set(getattr(PreTrainedConfig, "__dataclass_fields__", {}))
    return sorted(name for name in declared - known - general if "drop" not in name)


def check_own_configuration(model: OpenModel) -> Iterator[Finding]:
    """Report what the user should know about a single model's configuration."""
    if "auto_map" in model.config or "auto_map" in model.text_config:
        text = "config.json refers to code in its repository (auto_map); it is never run, only the tensors are read"
        yield Finding("warning", model_key(model, "auto_map"), text)


def check_layer_settings(owner: OpenModel) -> Iterator[Finding]:
    """Report settings of a stack's owner that differ between layers, or bind them to their places.

    They would stay where they are; kinds of attention (`layer_types`) are moved with the layers.
    """
    config = complete_config(owner.text_config)
    for name, why in PLACED.items():
        if config.get(name):
            text = f"set in {owner.label}: {why}, so they cannot be stacked or routed; merge weights instead"
            yield Finding("error", model_key(owner, name), text)
    depth = config.get("num_hidden_layers")
    for name, value in sorted(config.items()):
        if isinstance(value, list) and len(value) == depth and len(set(map(str, value))) > 1 and name != "layer_types":
            text = f"differs between the layers of {owner.label}, and evovlm does not move it; choose another owner"
            yield Finding("error", model_key(owner, name), text)


def _same(model: OpenModel, owner: OpenModel) -> bool:
    """Whether both files say the same: then no defaults are needed, and transformers need not be imported."""
    mine, theirs = (
        {key: value for key, value in one.text_config.items() if key not in PROVENANCE} for one in (model, owner)
    )
    return mine == theirs and model.tokens == owner.tokens


def complete_config(text_config: dict[str, Any]) -> dict[str, Any]:
    """Return a language model's configuration with its architecture's defaults and uniformly named rope settings."""
    from transformers import CONFIG_MAPPING

    given = dict(text_config)
    kind = given.get("model_type")
    config = given
    if kind in CONFIG_MAPPING:
        # A configuration that its own class rejects is compared without defaults.
        with suppress(CheckpointError), explained(Path(CONFIG)):
            config = CONFIG_MAPPING[kind](
                **{key: value for key, value in given.items() if key != "model_type"}
            ).to_dict()
    config = {**config, "model_type": kind}
    activation = config.get("hidden_activation") or config.get("hidden_act")
    config["hidden_act"] = ACTIVATIONS.get(activation, activation) if isinstance(activation, str) else activation
    rope = config.get("rope_parameters") or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta"))
    config["rope_type"] = rope.get("rope_type", "default")
    # Newer files keep it among the settings of rope. Without a word, all of a head is rotated.
    rotated = rope.get(ROTATED, config.get(ROTATED))
    config[ROTATED] = 1.0 if rotated is None else rotated
    apart = ("rope_theta", "rope_type", ROTATED, *MULTIMODAL)
    scaling = {key: value for key, value in rope.items() if key not in apart}
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


def _ends(model: OpenModel, config: dict[str, Any]) -> Any:
    """The end tokens' ids as generation uses them: those of generation_config.json, if there are any."""
    try:
        given = json.loads((model.folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        given = None
    return config.get("eos_token_id", model.text_config.get("eos_token_id")) if given is None else given


def _token(model: OpenModel, row: Any) -> str:
    """A special token as text, so that the same token under another id counts as equal."""
    if row is None:
        return "none"
    rows = row if isinstance(row, list) else [row]
    texts = {value: token for token, value in (model.tokens or {}).items()}
    return " ".join(texts.get(value, f"id {value}") for value in rows)
