"""Finds models of one recipe that are the same: the same files under two names, or copies with equal weights.

Compares bytes, and those only of models whose tensors have equal names, shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from evovlm.merging.check._finding import Finding, model_key
from evovlm.methods import METHODS
from evovlm.models.open_model import OpenModel
from evovlm.recipe.schema import Recipe

# Elements of a tensor that are compared, from its start and from its middle. Every change by training shows in them;
# smaller tensors are compared whole.
COMPARED = 1 << 16


def twins(models: Sequence[OpenModel]) -> Iterator[tuple[OpenModel, OpenModel]]:
    """Yield each model that is the same as an earlier one, as (earlier, later)."""
    different: list[OpenModel] = []
    for model in models:
        same = next((other for other in different if _same(other, model)), None)
        if same is None:
            different.append(model)
        else:
            yield same, model


def check_twins(recipe: Recipe, base: OpenModel | None, sources: Sequence[OpenModel]) -> Iterator[Finding]:
    """Report sources that are the same model, and sources of a task-vector method that are the base."""
    for one, other in twins(sources):
        text = f"is the same model as {one.label}: their weights are equal; remove one, or name another model"
        yield Finding("warning", model_key(other), text)
    method = METHODS.get(recipe.method)
    if base is None or method is None or not method.needs_base:
        return
    for source in sources:
        if _same(base, source) and source.label != recipe.owner:
            text = "is the base itself, so it adds nothing to the merge; remove it, or name another model"
            yield Finding("warning", model_key(source), text)


def _same(one: OpenModel, other: OpenModel) -> bool:
    if one.folder.resolve() == other.folder.resolve():
        return True
    if one.tower.keys() != other.tower.keys():
        return False
    pairs = [(name, one.tower[name], other.tower[name]) for name in one.tower]
    a, b = one.checkpoint, other.checkpoint
    if any(a.shape(here) != b.shape(there) or a.dtype(here) != b.dtype(there) for _, here, there in pairs):
        return False
    # The middle of the list first: embeddings are often frozen when a model is tuned, layers are not.
    ordered = sorted(range(len(pairs)), key=lambda index: abs(index - len(pairs) // 2))
    if any(not _alike(a.tensor(pairs[index][1]), b.tensor(pairs[index][2])) for index in ordered):
        return False
    return one.tokens == other.tokens


def _alike(one: Tensor, other: Tensor) -> bool:
    one, other = one.reshape(-1), other.reshape(-1)
    half = COMPARED // 2
    if one.numel() <= COMPARED:
        return _bytes_equal(one, other)
    middle = one.numel() // 2
    spans = (slice(0, half), slice(middle, middle + half))
    return all(_bytes_equal(one[span], other[span]) for span in spans)


def _bytes_equal(one: Tensor, other: Tensor) -> bool:
    """Equal bits, so that NaN equals itself."""
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
