"""The forward pass of a language tower on packed tokens: products, norms and activation; the caller does attention.

Knows a tower's weights; no caches, no prompts. The same code serves plain torch and fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from evovlm.engines._chunk import Chunk
from evovlm.engines._tower_view import Tower

# (layer number, queries, keys and values [tokens, (heads + 2 kv_heads) * dim]) -> [tokens, heads * dim].
Attend = Callable[[int, Tensor], Tensor]


class Deep(NamedTuple):
    """What a vision tower adds to the stream after each of the first layers (DeepStack, arXiv:2406.04334)."""

    places: Tensor  # tokens, int64 [image tokens]
    added: Tensor  # [layers, image tokens, hidden]


class Ops(NamedTuple):
    """The operations between the matrix products, in plain torch or fused."""

    norm: Callable[[Tensor, Tensor, float], Tensor]  # stream, weight, eps -> normed
    add_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]  # stream, more, ... -> stream, normed
    gated: Callable[[Tensor], Tensor]  # gate and up [tokens, 2 inner] -> [tokens, inner]


def deep_of(chunk: Chunk) -> Deep | None:
    """What a chunk's images add after the first layers; None if their features go into the embeddings alone."""
    if chunk.deep is None or chunk.places is None:
        return None
    return Deep(chunk.places, chunk.deep)


def prefill(tower: Tower, ops: Ops, hidden: Tensor, attend: Attend, deep: Deep | None = None) -> None:
    """Run embeddings [tokens, hidden] through the tower so that `attend` can store keys and values; no logits.

    `deep`: what is added to the stream at some tokens after each of the first layers.

    Requests each layer from `tower.pending` except the first, which the caller requested for the embeddings. Only keys
    and values of the last layer are used, so nothing else of it is computed.
    """
    if len(hidden):  # prompts of one token leave nothing to read before the first step
        _pass(tower, ops, hidden, attend, deep, whole=False)


def step(tower: Tower, ops: Ops, tokens: Tensor, attend: Attend) -> Tensor:
    """Return logits [rows, vocabulary] after one more token per row, `tokens` int64 [rows]."""
    hidden = _pass(tower, ops, functional.embedding(tokens, tower.embed), attend, None, whole=True)
    return linear(hidden, tower.head)


def linear(inputs: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:
    """Return inputs [rows, in] times weight [out, in]: [rows, out]. `weight`: a tensor or an object with `product`."""
    if isinstance(weight, Tensor):
        return functional.linear(inputs, weight, bias)
    made: Tensor = weight.product(inputs, bias)
    return made


def _pass(tower: Tower, ops: Ops, stream: Tensor, attend: Attend, deep: Deep | None, *, whole: bool) -> Tensor:
    layers, eps = tower.layers, tower.eps
    normed = ops.norm(stream, layers[0].before, eps)
    for index, layer in enumerate(layers):
        attended = attend(index, linear(normed, layer.qkv, layer.bias))
        last = index + 1 == len(layers)
        if last and not whole:
            return normed
        stream, normed = ops.add_norm(stream, linear(attended, layer.out), layer.after, eps)
        made = linear(ops.gated(linear(normed, layer.gate_up)), layer.down)
        if deep is not None and index < len(deep.added):
            made.index_add_(0, deep.places, deep.added[index].to(made.dtype))
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
