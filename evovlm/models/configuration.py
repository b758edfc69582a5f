"""A model's config.json: read, and refused where a value cannot be what it must be, or is more than the files hold.

Knows the keys that decide how large a model is and what its weights compute; makes no model. transformers builds
whatever a configuration says, so 2,000,000,000 layers would keep it busy for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from evovlm.models.families import family_of
from evovlm.models.model_files import kind_of, read_object
from evovlm.system.bounded_json import shown
from evovlm.system.errors import CheckpointError

CONFIG = "config.json"
GENERATION = "generation_config.json"
SECTIONS = ("text_config", "vision_config")
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "image_token_index", "image_token_id")
# Not more than the longest side of any tensor in the files.
WIDTHS = (
    *("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "num_local_experts"),
    *("n_routed_experts", "n_embd", "d_model", "n_inner", "n_head", "num_heads", "embed_dim"),
)
DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth")
# Every model has these; a family's class computes others, or does without, if they are null.
NEEDED = (*("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"), *DEPTHS)
ROPES = ("rope_parameters", "rope_scaling")
FRACTIONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "initializer_range", "attention_dropout")
# Pixels and patches of a side of the pictures that a vision tower takes. Published ones end at 1,540 and 110.
MOST_PIXELS = 4096
MOST_PATCHES = 512
MOST_LABELS = 100_000  # of a classifier, which transformers lists by name; ImageNet-21k has 21,841
# Integers beyond these lose digits in other programs that read JSON, and overflow torch's.
MOST_INTEGER = 2**53
NUMBERED = re.compile(r"\.([0-9]{1,6})\.")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a model folder's config.json.

    Raises CheckpointError, naming the key, if it is missing or damaged, or a value is of another type or below what
    makes sense.
    """
    path = folder / CONFIG
    config = read_object(path)
    if config is None:
        raise CheckpointError(f"{path}: no such file; a checkpoint needs its {CONFIG}")
    for key, problem in _problems(config):
        raise CheckpointError(f"{path}: `{key}` {problem}; correct it or fetch the file again")
    return config


def read_generation(folder: Path) -> dict[str, Any]:
    """The content of generation_config.json, empty if there is none. Raises CheckpointError as `read_config` does."""
    path = folder / GENERATION
    config = read_object(path) or {}
    for key in TOKENS:
        if key in config and (problem := _ids(config[key])) is not None:
            raise CheckpointError(f"{path}: `{key}` {problem}; correct it or fetch the file again")
    return config


def text_config_of(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a configuration that `read_config` has read: `text_config`, or all of it.

    Qwen2-VL's and Qwen2.5-VL's on the hub have the tower's settings at the top, beside the vision part's.
    """
    family = family_of(config)
    if family.flat and "text_config" not in config:
        text = {key: value for key, value in config.items() if key not in ("vision_config", "architectures")}
        return text | {"model_type": family.own_tower}
    found: dict[str, Any] = config.get("text_config", config)
    return found


def sections_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The configuration and the parts that describe a tower, with what stands before their keys in messages."""
    yield "", config
    for name in SECTIONS:
        if name in config:
            yield f"{name}.", config[name]


def refuse_oversized(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError if the configuration asks for more layers, or a wider model, than the files hold.

    shapes: of all tensors, by key. Exact comparison is left to transformers, which can then not allocate far more.
    """
    widest = max((max(shape, default=1) for shape in shapes.values()), default=1)
    numbers = (int(number) for key in shapes for number in NUMBERED.findall(key))
    deepest = 1 + max(numbers, default=0)
    for before, section in sections_of(config):
        for keys, most, what in (
            (DEPTHS, deepest, f"the files hold {deepest} layers"),
            (WIDTHS, widest, f"no tensor in the files is wider than {widest}"),
        ):
            for key in keys:
                given = section.get(key)
                if key == "vocab_size" and section is config and "text_config" in config:
                    continue  # PaliGemma has one there that its model does not use
                if isinstance(given, int) and given > most:
                    raise CheckpointError(
                        f"{folder / CONFIG}: `{before}{key}` is {given}, but {what}; take configuration and weights"
                        " from the same revision"
                    )


def _problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key whose value cannot be right, and why."""
    for name in SECTIONS:
        if name in config and not (isinstance(config[name], dict) and config[name]):
            yield name, f"must be an object with settings, not {_told(config[name])}"
            return
    if "transformers_weights" in config:
        yield "transformers_weights", "names weights in another place, which are not read"
    for before, section in sections_of(config):
        for key, check in CHECKS.items():
            if key in section and (problem := check(section[key])) is not None:
                yield before + key, problem
        yield from ((before + key, problem) for key, problem in (*_picture_problems(section), *_rope_problems(section)))
    yield from _too_large(config)


def _rope_problems(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings of rotary positions, in one object or in one per kind of attention."""
    for name in ROPES:
        given = section.get(name)
        if not isinstance(given, dict):
            continue
        kinds = {f"{name}.{key}": part for key, part in given.items() if key.endswith("_attention")}
        for where, part in (kinds or {name: given}).items():
            if not isinstance(part, dict | None):
                yield where, f"must be an object, not {_told(part)}"
                continue
            for key, check in ROPE_CHECKS.items():
                if part is not None and key in part and (problem := check(part[key])) is not None:
                    yield f"{where}.{key}", problem


def _picture_problems(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A picture's and a patch's side, where they are plain numbers."""
    side, patch = section.get("image_size"), section.get("patch_size")
    for key, value in (("image_size", side), ("patch_size", patch)):
        given = value if isinstance(value, list) else [value]
        if value is not None and not all(_is_integer(one) and 1 <= one <= MOST_PIXELS for one in given):
            yield key, f"must be a number of pixels from 1 to {MOST_PIXELS}, not {_told(value)}"
            return
    if _is_integer(side) and _is_integer(patch) and side // patch > MOST_PATCHES:
        yield "patch_size", f"is {patch}, which makes more than {MOST_PATCHES} patches of a side of {side} pixels"


def _too_large(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Integers that no program can use, anywhere; nesting is limited where the file was read."""
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    elif path[-1:] == ("num_labels",) and isinstance(value, int) and not 0 <= value <= MOST_LABELS:
        yield (
            ".".join(path),
            f"is {_told(value)}; transformers lists as many names, and at most {MOST_LABELS:,} are read",
        )
    elif isinstance(value, int) and abs(value) > MOST_INTEGER:
        yield shown(".".join(path)), f"is {_told(value)}, more than any program can use"
    for key, part in parts:
        yield from _too_large(part, (*path, str(key)))


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _told(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    return kind_of(value) if value is None or isinstance(value, dict | list | bool) else shown(value)


def _count(value: Any) -> str | None:
    sizes = value if isinstance(value, list) and value else [value]  # a vision tower may give one per stage
    if all(_is_integer(size) and 1 <= size <= MOST_INTEGER for size in sizes):
        return None
    return f"must be a whole number from 1, not {_told(value)}"


def _count_or_none(value: Any) -> str | None:
    return None if value is None or (_is_integer(value) and value == 0) else _count(value)


def _fraction(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e6
    return None if fits else f"must be a number from 0, not {_told(value)}"


def _base(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e18
    return None if fits else f"must be a number above 0, not {_told(value)}"


def _base_or_none(value: Any) -> str | None:
    return None if value is None else _base(value)


def _numbers(value: Any) -> str | None:
    fits = value is None or (isinstance(value, list) and value and all(_fraction(one) is None for one in value))
    return None if fits else f"must be a list of numbers, not {_told(value)}"


def _length(value: Any) -> str | None:
    fits = value is None or (_is_integer(value) and value >= -1)
    return None if fits else f"must be a whole number, not {_told(value)}"


def _ids(value: Any) -> str | None:
    ids = value if isinstance(value, list) else [value]
    if value is None or all(_is_integer(one) for one in ids):
        return None
    return f"must be a token's id or a list of ids, not {_told(value)}"


def _flag(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else f"must be true or false, not {_told(value)}"


def _name(value: Any) -> str | None:
    return None if value is None or (isinstance(value, str) and value) else f"must be a text, not {_told(value)}"


def _names(value: Any) -> str | None:
    fits = value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))
    return None if fits else f"must be a list of texts, not {_told(value)}"


def _mapping(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict) else f"must be an object, not {_told(value)}"


# What a key's value must be: a function that says what is wrong with it, or None.
CHECKS: dict[str, Callable[[Any], str | None]] = {
    **dict.fromkeys((*WIDTHS, *DEPTHS), _count_or_none),
    **dict.fromkeys(NEEDED, _count),
    **dict.fromkeys(FRACTIONS, _fraction),
    **dict.fromkeys(("max_position_embeddings", "sliding_window", "image_seq_length"), _length),
    **dict.fromkeys(TOKENS, _ids),
    **dict.fromkeys(("model_type", "hidden_act", "hidden_activation", "dtype", "torch_dtype"), _name),
    **dict.fromkeys((*ROPES, "quantization_config"), _mapping),
    **dict.fromkeys(("architectures", "layer_types"), _names),
    "rope_theta": _base_or_none,
    "tie_word_embeddings": _flag,
}
ROPE_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "rope_theta": _base,
    **dict.fromkeys(("factor", "partial_rotary_factor", "low_freq_factor", "high_freq_factor"), _base_or_none),
    **dict.fromkeys(("attention_factor", "beta_fast", "beta_slow", "short_mscale", "long_mscale"), _base_or_none),
    **dict.fromkeys(("short_factor", "long_factor", "mrope_section"), _numbers),
    **dict.fromkeys(("rope_type", "type"), _name),
    "original_max_position_embeddings": _count_or_none,
}
