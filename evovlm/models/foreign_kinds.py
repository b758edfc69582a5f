"""Kinds of models that evovlm cannot merge or ask, or only in part: each by name, with the next step.

Knows configurations as read and keys of tensors; no weights and no recipes. Whoever opens, checks or loads a model asks
here, so that every command says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evovlm.models.families import family_of
from evovlm.system.errors import CheckpointError

Config = Mapping[str, Any]

# What checkpoints that LLaVA's own code wrote have in config.json, and the prefix of their projector.
AUTHORS_SETTINGS = ("mm_vision_tower", "mm_projector_type", "mm_hidden_size")
AUTHORS_PROJECTOR = "model.mm_projector."
# Ends of the names that quantised weights have in place of `weight`.
PACKED = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_inv": "FP8",
    ".weight_scale": "FP8",
}
METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "compressed-tensors": "compressed-tensors",
    "mxfp4": "MXFP4",
    "aqlm": "AQLM",
    "hqq": "HQQ",
    "eetq": "EETQ",
    "quanto": "quanto",
    "torchao": "torchao",
}


@dataclass(frozen=True)
class ForeignKind:
    """What cannot be done with a model; each text goes on from its name, and None means that it can be tried.

    merged: why not even its language tower can be merged. owned: why it cannot give the output its vision part. asked:
    why it cannot answer.
    """

    merged: str | None = None
    owned: str | None = None
    asked: str | None = None


def foreign_kind(config: Config, keys: Iterable[str]) -> ForeignKind:
    """What cannot be done with a model of this configuration and these keys."""
    keys = list(keys)
    kinds = {str(config.get("model_type", ""))} | set(map(str, _listed(config.get("architectures"))))
    authors = any(key in config for key in AUTHORS_SETTINGS)
    if authors or any(key.startswith(AUTHORS_PROJECTOR) for key in keys):
        return _authors_llava(config)
    if kinds & {"internvl_chat", "InternVLChatModel"}:
        text = (
            "is in InternVL's authors' own layout (InternVLChatModel), which only the code in its repository can load;"
            " take the version for transformers, whose name ends in -hf (such as OpenGVLab/InternVL3-8B-hf)"
        )
        return ForeignKind(text, text, text)
    family = family_of(config)
    if family.unasked:
        return ForeignKind(asked=f"is a {family.name}: {family.unasked}")
    return ForeignKind(asked=_needs_code(config))


def quantisation(config: Config, keys: Iterable[str]) -> str | None:
    """Why a model cannot be merged or asked because its weights are quantised; None if they are not."""
    given = config.get("quantization_config", config.get("quantization"))
    method, bits = None, ""
    if isinstance(given, Mapping):
        method = METHODS.get(str(given.get("quant_method", "")).lower())
        if method is None and any(str(key).startswith(("load_in_", "bnb_")) for key in given):
            method = "bitsandbytes"
        wide = given.get("bits", given.get("w_bit"))
        eight, four = given.get("load_in_8bit") is True, given.get("load_in_4bit") is True
        wide = 8 if eight else 4 if four else wide
        bits = f", {wide} bits" if isinstance(wide, int) and not isinstance(wide, bool) else ""
    elif given is None:
        method = next((name for key in keys for end, name in PACKED.items() if key.endswith(end)), None)
        if method is None:
            return None
    how = f" ({method}{bits})" if method is not None else " (see quantization_config)"
    return f"quantised weights{how} cannot be merged or asked; use the unquantised checkpoint"


def refuse_unasked(folder: Path, config: Config, keys: Iterable[str] = ()) -> None:
    """Raise CheckpointError if a model cannot answer, by its kind or because its weights are quantised."""
    keys = list(keys)
    asked = foreign_kind(config, keys).asked
    if asked is not None:
        raise CheckpointError(f"{folder} {asked}")
    if said := quantisation(config, keys):
        raise CheckpointError(f"{folder}: {said}")


def _authors_llava(config: Config) -> ForeignKind:
    named = next(iter(_listed(config.get("architectures"))), "LlavaLlamaForCausalLM")
    text = (
        f"is in LLaVA's authors' own layout ({named}), which transformers cannot load; take the converted checkpoint"
        " (on the hub under llava-hf/)"
    )
    return ForeignKind(owned=text, asked=text)


def _needs_code(config: Config) -> str | None:
    """A model whose architecture transformers does not have, or which only its repository's code can load."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        return "has no model_type in its config.json, so it cannot be asked; download config.json again"
    if "auto_map" not in config and kind in _COMMON:
        return None
    from transformers import CONFIG_MAPPING

    if kind in CONFIG_MAPPING:
        return None
    if "auto_map" in config:
        return (
            f"needs remote code: only the code in its repository (auto_map) can load the kind {kind!r}, and evovlm"
            " never runs it; choose a version for transformers (its name often ends in -hf)"
        )
    return f"is of the kind {kind!r}, which this transformers does not know; choose another model, or update it"


# Kinds that every supported transformers knows, so that it need not be imported to say so.
_COMMON = frozenset(
    ("llava", "llava_next", "mistral", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_text", "mixtral", "phi3")
)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
