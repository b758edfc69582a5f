"""Folding: builds a route's scales into the weights, so that a plain model computes the same as the route.

Knows canonical tensor names and one tensor at a time. A layer adds f(norm(x)) to the residual stream x, and norm(c x) =
sign(c) norm(x) up to its epsilon. With C the product of all scales so far, the plain model's stream is x / C: the
layer's output is divided by C, and norm weights take the sign of C. The epsilon then has the effect of epsilon C^2;
`_folding_error` measures the difference, and refuses families for which all this does not hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor

from evovlm.models.layouts import FINAL_NORM

# Tensors that write to the residual stream, and norms that read from it.
WRITES = (".self_attn.o_proj.weight", ".self_attn.o_proj.bias", ".mlp.down_proj.weight", ".mlp.down_proj.bias")
EXPERT_WRITES = re.compile(r"\.mlp\.experts\.\d+\.down_proj\.weight$")
READS = (".input_layernorm.weight", ".post_attention_layernorm.weight", FINAL_NORM)
# In Gemma 2 and 3 (and others) a second pair of norms lies between each block and the stream, and cancels any factor of
# the projections before it; there, these norms write.
SANDWICH = ".pre_feedforward_layernorm.weight"
SANDWICH_READS = (".input_layernorm.weight", SANDWICH, FINAL_NORM)
SANDWICH_WRITES = tuple(
    f".{norm}.{kind}"
    for norm in ("post_attention_layernorm", "post_feedforward_layernorm")
    for kind in ("weight", "bias")
)


PIECE = 2**20  # elements that are compared at a time


def has_sandwich(names: Iterable[str]) -> bool:
    """Whether a tower has norms on both sides of each block."""
    return any(name.endswith(SANDWICH) for name in names)


def factor_of(name: str, product: float, *, sandwich: bool = False) -> float:
    """Return the factor for what a tensor does, at a point where the stream has been scaled by `product` in total.

    `name`: canonical tensor name. `sandwich`: see `has_sandwich`. Does not raise: a product of 0 or infinity gives
    weights that the build rejects.
    """
    if name.endswith(SANDWICH_READS if sandwich else READS):
        return math.copysign(1.0, product)
    writes = name.endswith(SANDWICH_WRITES) if sandwich else name.endswith(WRITES) or EXPERT_WRITES.search(name)
    if writes:
        return math.inf if product == 0 else 1.0 / product
    return 1.0


def fold(tensor: Tensor, factor: float, offset: float) -> Tensor:
    """Return the weights with which a module does `factor` times as much.

    `offset`: what the module adds to its weights before it multiplies by them, as Gemma's norms add 1; else 0.
    """
    return tensor * factor + (factor - 1.0) * offset if offset else tensor * factor


def lost_share(tensor: Tensor, factor: float, offset: float, dtype: torch.dtype) -> float:
    """How far the stored weights are from the exact ones, as a share of these: root mean square, in float64.

    The arguments as for `fold`, and the dtype that it is stored in. Besides rounding, what is too small for the dtype
    becomes 0 and what is too large infinite. What counts is what the module multiplies by, its offset included.
    Infinity if the exact weights are all 0 and the stored ones are not, or a stored one is not finite.
    """
    apart = size = 0.0
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), PIECE):
        piece = flat[start : start + PIECE]
        exact = (piece.double() + offset) * factor
        stored = fold(piece.float(), factor, offset).to(dtype).double() + offset
        apart += float((stored - exact).pow(2).sum())
        size += float(exact.pow(2).sum())
    if not (math.isfinite(apart) and math.isfinite(size)):
        return math.inf
    return math.sqrt(apart / size) if size else (math.inf if apart else 0.0)
