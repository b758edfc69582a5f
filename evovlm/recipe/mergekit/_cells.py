"""From values per tensor to named layer groups: converts mergekit's conditions to a recipe's `groups`.

Knows tensor names of Mistral, Llama and Qwen2 towers; no configuration files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from evovlm.models.layouts import EMBEDDING, FINAL_NORM, OUTPUT_HEAD

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
ANY_LAYER = "*"

Values = tuple[float, ...]  # one number per (source, parameter)
ValuesAt = Callable[[str, int | None], Values | None]  # tensor name, layer; None: no setting covers it


@dataclass(frozen=True)
class Grouped:
    """`spec`: a recipe's `groups`. `values`: the numbers of each group, in the spec's order."""

    spec: dict[str, tuple[str, ...]]
    values: dict[str, Values]


def group_tensors(layers: Sequence[int], others: bool, values_at: ValuesAt) -> Grouped:
    """Put tensors with equal values into groups.

    `layers`: layers to look at individually. `others`: whether there may be further layers, all alike.
    """
    groups: dict[str, tuple[str, ...]] = {}
    values: dict[str, Values] = {}

    def add(name: str, patterns: Sequence[str], found: Values | None) -> None:
        if found is not None:
            groups[name], values[name] = tuple(patterns), found

    add("embeddings", ["model.embed_tokens.*"], values_at(EMBEDDING, None))
    cells = [(layer, _modules(str(layer), layer, values_at)) for layer in layers]
    # A run has equal values and no gaps: the layer number minus its position is constant within it.
    runs = groupby(enumerate(cells), key=lambda placed: (placed[1][0] - placed[0], placed[1][1]))
    for (_, modules), run in runs:
        numbers = [layer for _, (layer, _) in run]
        for name, patterns, found in _layer_groups(modules, numbers[0], numbers[-1]):
            add(name, patterns, found)
    if others:
        for name, patterns, found in _other_groups(_modules(ANY_LAYER, None, values_at), bool(layers)):
            add(name, patterns, found)
    norm = values_at(FINAL_NORM, None)
    head = values_at(OUTPUT_HEAD, None)
    if norm == head:
        add("head", ["model.norm.*", "lm_head.*"], head)
    else:
        add("norm", ["model.norm.*"], norm)
        add("head", ["lm_head.*"], head)
    return Grouped(groups, values)


def _modules(layer: str, number: int | None, values_at: ValuesAt) -> tuple[tuple[str, Values | None], ...]:
    """The values of each tensor of a layer, as (`stem.weight` or `stem.bias`, values)."""
    return tuple(
        (f"{stem}.{kind}", values_at(f"model.layers.{layer}.{stem}.{kind}", number))
        for stem in STEMS
        for kind in ("weight", "bias")
    )


def _layer_groups(
    modules: tuple[tuple[str, Values | None], ...], first: int, last: int
) -> Iterator[tuple[str, list[str], Values | None]]:
    span = f"layers {first}-{last}"
    named = _by_values(modules)
    for found, members in named.items():
        if len(named) == 1:
            yield span, [span], found
        else:
            stems = _compress(members)
            patterns = [f"model.layers.{layer}.{stem}" for layer in range(first, last + 1) for stem in stems]
            yield f"{span} {_words(stems)}", patterns, found


def _other_groups(
    modules: tuple[tuple[str, Values | None], ...], after_named: bool
) -> Iterator[tuple[str, list[str], Values | None]]:
    name = "other layers" if after_named else "layers"
    named = _by_values(modules)
    for found, members in named.items():
        if len(named) == 1:
            yield name, ["model.layers.*"], found
        else:
            stems = _compress(members)
            # A `*` for the layer also matches dots, which is harmless because no stem occurs inside another.
            yield f"{name} {_words(stems)}", [f"model.layers.*.{stem}" for stem in stems], found


def _by_values(modules: tuple[tuple[str, Values | None], ...]) -> dict[Values | None, list[str]]:
    named: dict[Values | None, list[str]] = {}
    for tensor, found in modules:
        named.setdefault(found, []).append(tensor)
    return named


def _compress(tensors: list[str]) -> list[str]:
    """Globs for tensors of a layer: whole blocks if possible, then modules, then single tensors."""
    left, globs = set(tensors), []
    for prefix in (*BLOCKS, *STEMS):
        inside = {
            f"{stem}.{kind}" for stem in STEMS for kind in ("weight", "bias") if f"{stem}.".startswith(f"{prefix}.")
        }
        if inside <= left:
            globs.append(f"{prefix}.*")
            left -= inside
    return globs + [tensor for tensor in tensors if tensor in left]


def _words(stems: Sequence[str]) -> str:
    return " ".join(stem.removesuffix(".*") for stem in stems)
