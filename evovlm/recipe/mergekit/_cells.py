"""From values per tensor to named layer groups: converts mergekit's conditions to a recipe's `groups`.

Knows the tensor names that Mistral, Llama and Qwen2 towers have, and is given those of others; no files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from evovlm.models.layouts import EMBEDDING, FINAL_NORM, LAYER, OUTPUT_HEAD

# Modules of one layer; each may have a weight and a bias. The first part of a name is the module's block.
STEMS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "input_layernorm",
    "post_attention_layernorm",
)
BLOCKS = ("self_attn", "mlp")
USUAL = tuple(f"{stem}.{kind}" for stem in STEMS for kind in ("weight", "bias"))
# Modules that other families have (Gemma 2 and 3, Qwen 3, Phi 3, Mixtral, Qwen's mixtures), for files whose models are
# not on this machine. {n}: the number of an expert.
FURTHER = (
    *("pre_feedforward_layernorm", "post_feedforward_layernorm", "self_attn.q_norm", "self_attn.k_norm"),
    *("self_attn.qkv_proj", "mlp.gate_up_proj", "block_sparse_moe.gate", "mlp.gate", "mlp.shared_expert_gate"),
    *(f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")),
    *(f"block_sparse_moe.experts.{{n}}.w{part}" for part in (1, 2, 3)),
    *(f"mlp.experts.{{n}}.{part}_proj" for part in ("gate", "up", "down")),
)
LEAST_EXPERTS, MOST_EXPERTS = 8, 256
ANY_LAYER = "*"

Values = tuple[float, ...]  # one number per (source, parameter)
ValuesAt = Callable[[str, int | None], Values | None]  # tensor name, layer; None: no setting covers it


@dataclass(frozen=True)
class Grouped:
    """`spec`: a recipe's `groups`. `values`: the numbers of each group, in the spec's order."""

    spec: dict[str, tuple[str, ...]]
    values: dict[str, Values]


@dataclass(frozen=True)
class Names:
    """The tensors to put into groups: `modules` of a layer (`self_attn.q_proj.weight`), and `outside` the layers.

    `outside` has only those besides the embedding table, the final norm's weight and the head's weight.
    """

    modules: tuple[str, ...] = USUAL
    outside: tuple[str, ...] = ()

    @classmethod
    def of(cls, tensors: Iterable[str]) -> Names:
        """The names of a tower's tensors, in addition to the usual ones."""
        modules: dict[str, None] = dict.fromkeys(USUAL)
        outside: dict[str, None] = {}
        for tensor in tensors:
            layer = LAYER.match(tensor)
            if layer is not None:
                modules[tensor[layer.end() :]] = None
            elif tensor not in (EMBEDDING, FINAL_NORM, OUTPUT_HEAD):
                outside[tensor] = None
        return cls(tuple(modules), tuple(outside))

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """Parts of a layer that one glob can cover: blocks, then modules, then whatever else tensors lie in."""
        parts = [module.split(".") for module in self.modules]
        inner = {".".join(path[:depth]) for path in parts for depth in range(1, len(path))}
        rest = sorted(inner - {*BLOCKS, *STEMS}, key=lambda prefix: (prefix.count("."), prefix))
        return (*BLOCKS, *STEMS, *rest)


def further_tensors(filters: Sequence[str]) -> list[str]:
    """Names of a layer's tensors in other families, if a filter fits only those; else none."""
    usual = [f"model.layers.0.{module}" for module in USUAL]
    asked = [text for text in filters if not any(text in name for name in usual)]
    numbers = [int(digits) for text in asked for digits in re.findall(r"experts\.(\d{1,3})", text)]
    experts = min(MOST_EXPERTS, max([LEAST_EXPERTS - 1, *numbers]) + 1)
    names = [
        f"model.layers.0.{stem.format(n=number)}.weight"
        for stem in FURTHER
        for number in (range(experts) if "{n}" in stem else (0,))
    ]
    return names if any(text in name for text in asked for name in names) else []


def group_tensors(layers: Sequence[int], others: bool, values_at: ValuesAt, names: Names) -> Grouped:
    """Put tensors with equal values into groups.

    `layers`: layers to look at individually. `others`: whether there may be further layers, all alike.
    """
    groups: dict[str, tuple[str, ...]] = {}
    values: dict[str, Values] = {}

    def add(name: str, patterns: Sequence[str], found: Values | None) -> None:
        if found is not None:
            groups[name], values[name] = tuple(patterns), found

    for name in names.outside:
        like = next(
            (one for one in (EMBEDDING, FINAL_NORM) if name.startswith(one.removesuffix("weight"))), OUTPUT_HEAD
        )
        if values_at(name, None) != values_at(like, None):
            add(name, [name], values_at(name, None))
    add("embeddings", ["model.embed_tokens.*"], values_at(EMBEDDING, None))
    cells = [(layer, _modules(names, str(layer), layer, values_at)) for layer in layers]
    # A run has equal values and no gaps: the layer number minus its position is constant within it.
    runs = groupby(enumerate(cells), key=lambda placed: (placed[1][0] - placed[0], placed[1][1]))
    for (_, modules), run in runs:
        numbers = [layer for _, (layer, _) in run]
        for name, patterns, found in _layer_groups(names, modules, numbers[0], numbers[-1]):
            add(name, patterns, found)
    if others:
        for name, patterns, found in _other_groups(names, _modules(names, ANY_LAYER, None, values_at), bool(layers)):
            add(name, patterns, found)
    norm = values_at(FINAL_NORM, None)
    head = values_at(OUTPUT_HEAD, None)
    if norm == head:
        add("head", ["model.norm.*", "lm_head.*"], head)
    else:
        add("norm", ["model.norm.*"], norm)
        add("head", ["lm_head.*"], head)
    return Grouped(groups, values)


def _modules(
    names: Names, layer: str, number: int | None, values_at: ValuesAt
) -> tuple[tuple[str, Values | None], ...]:
    """The values of each tensor of a layer, as (`stem.weight` or `stem.bias`, values)."""
    return tuple((module, values_at(f"model.layers.{layer}.{module}", number)) for module in names.modules)


def _layer_groups(
    names: Names, modules: tuple[tuple[str, Values | None], ...], first: int, last: int
) -> Iterator[tuple[str, list[str], Values | None]]:
    span = f"layers {first}-{last}"
    named = _by_values(modules)
    for found, members in named.items():
        if len(named) == 1:
            yield span, [span], found
        else:
            stems = _compress(names, members)
            patterns = [f"model.layers.{layer}.{stem}" for layer in range(first, last + 1) for stem in stems]
            yield f"{span} {_words(stems)}", patterns, found


def _other_groups(
    names: Names, modules: tuple[tuple[str, Values | None], ...], after_named: bool
) -> Iterator[tuple[str, list[str], Values | None]]:
    name = "other layers" if after_named else "layers"
    named = _by_values(modules)
    for found, members in named.items():
        if len(named) == 1:
            yield name, ["model.layers.*"], found
        else:
            stems = _compress(names, members)
            # A `*` for the layer also matches dots; the reader compares the outcome with the names that it knows.
            yield f"{name} {_words(stems)}", [f"model.layers.*.{stem}" for stem in stems], found


def _by_values(modules: tuple[tuple[str, Values | None], ...]) -> dict[Values | None, list[str]]:
    named: dict[Values | None, list[str]] = {}
    for tensor, found in modules:
        named.setdefault(found, []).append(tensor)
    return named


def _compress(names: Names, tensors: list[str]) -> list[str]:
    """Globs for tensors of a layer: whole blocks if possible, then modules, then single tensors."""
    left, globs = set(tensors), []
    for prefix in names.prefixes:
        inside = {module for module in names.modules if module.startswith(f"{prefix}.")}
        if inside and inside <= left:
            globs.append(f"{prefix}.*")
            left -= inside
    return globs + [tensor for tensor in tensors if tensor in left]


def _words(stems: Sequence[str]) -> str:
    return " ".join(stem.removesuffix(".*") for stem in stems)
