"""Small random models and one call that merges them, for the tests of the merge methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.methods import CHUNK, METHODS, Operand, Tables, merge_tensor, resolve_options
from evovlm.methods.draws import Draws


@dataclass(frozen=True)
class Models:
    """A base and its descendants, one tensor each."""

    base: Tensor
    sources: tuple[Tensor, ...]


def make_models(
    shape: Sequence[int] = (12, 20), sources: int = 2, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Models:
    """Random tensors: a base, and sources near it."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(tuple(shape), generator=generator) * 0.05
    tuned = [base + torch.randn(tuple(shape), generator=generator) * 0.01 for _ in range(sources)]
    return Models(base.to(dtype), tuple(tensor.to(dtype) for tensor in tuned))


def as_many(method: str, names: Sequence[str]) -> Sequence[str]:
    """As many of the sources as the method takes; passthrough stacks layers of all of them."""
    return names if method == "passthrough" else names[: METHODS[method].most]


def sources_of(method: str, models: Models) -> tuple[Tensor, ...]:
    """As many sources as the method takes."""
    return models.sources[: METHODS[method].most]


def merge(
    method: str,
    models: Models,
    *,
    weights: Sequence[float] = (0.7, 0.45, -0.2),
    densities: Sequence[float] = (0.6, 0.35, 0.8),
    masks: Sequence[Tensor | None] | None = None,
    tables: Sequence[Tables] | None = None,
    names: Sequence[str] = ("a", "b", "c"),
    normalize: bool | None = None,
    rescale: str | None = None,
    lambda_: float = 1.0,
    epsilon: float = 0.15,
    gamma: float = 0.01,
    own: Mapping[str, bool | float | str] | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
    chunk: int = CHUNK,
    with_base: bool | None = None,
) -> Tensor:
    """Merge with options named as in a recipe; the method's defaults where nothing is said.

    with_base: whether the base is given; None if the method needs it.
    """
    operands = [
        Operand(
            tensor,
            weights[index],
            densities[index],
            Draws(seed, names[index], "w", keep=tables is not None),
            None if tables is None else tables[index],
            None if masks is None else masks[index],
        )
        for index, tensor in enumerate(sources_of(method, models))
    ]
    options = resolve_options(method, normalize, rescale, lambda_, epsilon, gamma, own)
    base = models.base if (METHODS[method].needs_base if with_base is None else with_base) else None
    return merge_tensor(method, base, operands, options, dtype=dtype or models.base.dtype, out=out, chunk=chunk)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Equal to the last bit, the sign of zero included."""
    view = {2: torch.int16, 4: torch.int32}[left.element_size()]
    return left.dtype == right.dtype and torch.equal(left.view(view), right.view(view))
