"""The forward pass of a language tower on packed tokens: products, norms and activation; the caller does attention.

Knows a tower's weights; no caches, no prompts. The same code serves plain torch and fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from evovlm.engines._tower_view import Tower

# (layer number, queries, keys and values [tokens, (heads + 2 kv_heads) * dim]) -> [tokens, heads * dim].
Attend = Callable[[int, Tensor], Tensor]


class Ops(NamedTuple):
    """The operations between the matrix products, in plain torch or fused."""

    norm: Callable[[Tensor, Tensor, float], Tensor]  # stream, weight, eps -> normed
    add_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]  # stream, more, ... -> stream, normed
    gated: Callable[[Tensor], Tensor]  # gate and up [tokens, 2 inner] -> [tokens, inner]


def prefill(tower: Tower, ops: Ops, hidden: Tensor, attend: Attend) -> None:
    """Run embeddings [tokens, hidden] through the tower so that `attend` can store keys and values; no logits.

    Requests each layer from `tower.pending` except the first, which the caller requested for the embeddings. Only keys
    and values of the last layer are used, so nothing else of it is computed.
    """
    _pass(tower, ops, hidden, attend, whole=False)


def step(tower: Tower, ops: Ops, tokens: Tensor, attend: Attend) -> Tensor:
    """Return logits [rows, vocabulary] after one more token per row, `tokens` int64 [rows]."""
    hidden = _pass(tower, ops, functional.embedding(tokens, tower.embed), attend, whole=True)
    return linear(hidden, tower.head)


def linear(inputs: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:
    """Return inputs [rows, in] times weight [out, in]: [rows, out]. `weight`: a tensor or an object with `product`."""
    if isinstance(weight, Tensor):
        return functional.linear(inputs, weight, bias)
    made: Tensor = weight.product(inputs, bias)
    return made


def _pass(tower: Tower, ops: Ops, stream: Tensor, attend: Attend, *, whole: bool) -> Tensor:
    layers, eps = tower.layers, tower.eps
    normed = ops.norm(stream, layers[0].before, eps)
    for index, layer in enumerate(layers):
        attended = attend(index, linear(normed, layer.qkv, layer.bias))
        last = index + 1 == len(layers)
        if last and not whole:
            return normed
        stream, normed = ops.add_norm(stream, linear(attended, layer.out), layer.after, eps)
        made = linear(ops.gated(linear(normed, layer.gate_up)), layer.down)
        if not whole:
            tower.pending.need(index + 1)
        stream, normed = ops.add_norm(stream, made, tower.norm if last else layers[index + 1].before, eps)
    return normed


def plain_norm(stream: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm: float32 inside, rounded before multiplying by the weight, as in transformers."""
    wide = stream.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)).to(stream.dtype)


def _plain_add_norm(stream: Tensor, more: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    stream = stream + more
    return stream, plain_norm(stream, weight, eps)


def _plain_gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


PLAIN = Ops(plain_norm, _plain_add_norm, _plain_gated)
