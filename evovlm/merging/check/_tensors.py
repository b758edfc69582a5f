"""Checks a model's tower tensors against the owner's: presence, shapes, dtypes, tied heads.

Knows headers; reads no tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from evovlm.merging.check._finding import Finding, model_key
from evovlm.merging.check.configuration import complete_config
from evovlm.models.layouts import OUTPUT_HEAD, VOCABULARY_TENSORS
from evovlm.models.open_model import OpenModel, ties_head
from evovlm.models.vocabulary import name_some
from evovlm.recipe.layer_groups import layer_of


def check_tower(model: OpenModel, owner: OpenModel, *, stacked: bool) -> Iterator[Finding]:
    """Report missing tensors, extra tensors and tensors of another shape.

    The number of vocabulary rows is left to `check_vocabulary`. `stacked`: layers are stacked by slices or a route,
    so layer counts may differ.
    """
    here, there = dict(model.tower), dict(owner.tower)
    if stacked:
        here, there = (
            {name: key for name, key in tower.items() if layer_of(name) in (None, 0)} for tower in (here, there)
        )
    missing = [name for name in there if name not in here and name != OUTPUT_HEAD]
    if missing:
        text = (
            f"lacks {len(missing)} tensors of {owner.label}'s language tower: {name_some(missing)};"
            " choose a source of the same architecture and depth"
        )
        yield Finding("error", model_key(model, "tower"), text)
    extra = [name for name in here if name not in there and name != OUTPUT_HEAD]
    if extra:
        text = (
            f"has {len(extra)} tensors that {owner.label}'s language tower lacks: {name_some(extra)}; they are ignored"
        )
        yield Finding("warning", model_key(model, "tower"), text)
    differing = [
        (name, _shape(model, name), _shape(owner, name))
        for name in here
        if name in there and _shape(model, name) != _shape(owner, name)
    ]
    if differing:
        name, mine, theirs = differing[0]
        text = (
            f"{len(differing)} tensors differ in shape from {owner.label}'s, first {name}: {list(mine)} in"
            f" {model.label}, {list(theirs)} in {owner.label}; choose a source of the same size"
        )
        yield Finding("error", model_key(model, "shapes"), text)


def check_head(model: OpenModel, owner: OpenModel) -> Iterator[Finding]:
    """Report whether output heads are tied to the embedding table, and what that means for the merge."""
    key = model_key(model, "tie_word_embeddings")
    tied = OUTPUT_HEAD not in model.tower
    if ties_head(model.config, model.text_config) and not tied:
        text = "the configuration ties the head to the embeddings, but the file has an lm_head of other values"
        rest = "; loaders differ in which they use: set it to false" if model is owner else "; that lm_head is merged"
        yield Finding("error" if model is owner else "warning", key, text + rest)
    if tied and not _ties_by_default(model):
        text = (
            "the file has no lm_head and the configuration does not tie it to the embeddings; the embedding table is"
            " used in its place"
        )
        yield Finding("error" if model is owner else "warning", key, text)
    if model is owner:
        return
    owner_tied = OUTPUT_HEAD not in owner.tower
    if owner_tied and not tied:
        text = f"{owner.label}'s head is tied to its embeddings and {model.label}'s is not: its lm_head is dropped"
        yield Finding("warning", key, text)
    if tied and not owner_tied:
        text = (
            f"{model.label}'s head is tied to its embeddings and {owner.label}'s is not: its embedding table is used"
            " for both"
        )
        yield Finding("warning", key, text)


def _ties_by_default(model: OpenModel) -> bool:
    """Whether the configuration ties the head, with its architecture's default where the files say nothing."""
    configs = (model.config, model.text_config)
    if any("tie_word_embeddings" in config for config in configs):
        return ties_head(*configs)
    return bool(complete_config(model.text_config).get("tie_word_embeddings"))


def check_stored(model: OpenModel, dtype: str) -> Iterator[Finding]:
    """Report dtypes that cannot be merged, and those that the output does not keep. `dtype`: the output's."""
    stored = Counter(model.checkpoint.dtype(key) for key in model.tower.values())
    whole = [found for found in stored if not found.is_floating_point or found.itemsize < 2]
    if whole or model.config.get("quantization_config"):
        names = ", ".join(str(found).removeprefix("torch.") for found in whole) or "see quantization_config"
        text = f"quantised weights ({names}) cannot be merged; use the unquantised checkpoint"
        yield Finding("error", model_key(model, "dtype"), text)
        return
    others = sorted(str(found).removeprefix("torch.") for found in stored)
    if others != [dtype]:
        text = f"stored as {', '.join(others)}; merged in float32 and written as {dtype}"
        yield Finding("note", model_key(model, "dtype"), text)


def _shape(model: OpenModel, name: str) -> tuple[int, ...]:
    """A tensor's shape, without the number of vocabulary rows, which may differ."""
    shape = model.checkpoint.shape(model.tower[name])
    return shape[1:] if name in VOCABULARY_TENSORS else shape
