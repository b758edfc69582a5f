"""A language tower as the few tensors that its forward pass needs: views of the live weights of a transformers model.

Knows decoder layers of the Mistral, Llama, Qwen2 and Qwen3 families; computes nothing. Query, key and value
weights are moved into one tensor, gate and up too, so that one product reads them; the model's own parameters become
views of it and keep their identity, so that writing to them in place changes the tower as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from evovlm.merging.live.lazy import Pending

KNOWN_LAYERS = (
    *("MistralDecoderLayer", "LlamaDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"),
    *("Qwen2VLDecoderLayer", "Qwen2_5_VLDecoderLayer", "Qwen3VLTextDecoderLayer"),
)
AXES = 3  # time, height and width
# Rotary tables of these kinds do not depend on the length of the text.
KNOWN_ROPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class Layer:
    """One decoder layer's weights. Matrices are [out, in]."""

    before: Tensor  # the norm before attention [hidden]
    qkv: Any  # [(heads + 2 kv_heads) * dim, hidden]
    bias: Tensor | None
    out: Any  # [hidden, heads * dim]
    after: Tensor  # the norm before the MLP [hidden]
    gate_up: Any  # [2 * inner, hidden]
    down: Any  # [hidden, inner]
    query_norm: Tensor | None = None  # of each query head [dim], before its rotation
    key_norm: Tensor | None = None


@dataclass(frozen=True)
class Tower:
    """A decoder's live weights and shape."""

    layers: tuple[Layer, ...]
    embed: Tensor  # [vocabulary, hidden]
    norm: Tensor
    head: Any  # [vocabulary, hidden]
    eps: float
    heads: int
    kv_heads: int
    dim: int  # of a head
    window: int | None  # tokens that attention can look back; None: all
    rotary: Any
    axes: int = 1  # positions per token: 3 (time, height, width) if pictures have positions of their own
    pending: Pending = field(default_factory=Pending)  # the unfinished part of the current candidate's merge

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        return 2 * len(self.layers) * self.kv_heads * self.dim * self.embed.element_size()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices including the head: what each step has to read at least."""
        layer = self.layers[0]
        one = layer.qkv.nbytes + layer.out.nbytes + layer.gate_up.nbytes + layer.down.nbytes
        return int(len(self.layers) * one + self.head.nbytes)

    @property
    def linear_weights(self) -> int:
        """Number of weights in one layer's matrices."""
        layer = self.layers[0]
        return int(layer.qkv.numel() + layer.out.numel() + layer.gate_up.numel() + layer.down.numel())

    def rotary_table(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each [length, dim], of the first positions, in the tower's dtype."""
        positions = torch.arange(length, device=self.embed.device)
        return self.rotations(positions if self.axes == 1 else positions.expand(self.axes, -1))

    def rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each [tokens, dim], in the tower's dtype.

        `positions`: int64 [tokens], or [axes, tokens] if there are several axes.
        """
        cos, sin = self.rotary(self.embed[:1, None], positions.unsqueeze(-2))
        return cos[0].contiguous(), sin[0].contiguous()


def view_of(model: Any, decoder: Any) -> Tower | None:
    """Return the tower of a causal model, or None if its layers are of an unsupported kind.

    model: has `lm_head`. decoder: its decoder (embeddings, layers, norm).
    """
    config = decoder.config
    layers = list(decoder.layers)
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    known = all(type(layer).__name__ in KNOWN_LAYERS and _is_plain(layer) for layer in layers)
    if not layers or not known or config.hidden_act != "silu" or rope not in KNOWN_ROPES:
        return None
    if model.lm_head.bias is not None:
        return None
    attention = layers[0].self_attn
    heads = config.num_attention_heads
    several = "mrope_section" in (getattr(config, "rope_parameters", None) or {})
    return Tower(
        layers=tuple(_layer(layer) for layer in layers),
        embed=decoder.embed_tokens.weight.data,
        norm=decoder.norm.weight.data,
        head=model.lm_head.weight.data,
        eps=decoder.norm.variance_epsilon,
        heads=heads,
        kv_heads=heads // attention.num_key_value_groups,
        dim=attention.head_dim,
        window=getattr(config, "sliding_window", None),
        rotary=decoder.rotary_emb,
        axes=AXES if several else 1,
    )


def _is_plain(layer: Any) -> bool:
    linear = (layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj)
    projections = (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
    return all(isinstance(part, nn.Linear) for part in (*linear, *projections)) and all(
        part.bias is None for part in linear
    )


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return Layer(
        before=layer.input_layernorm.weight.data,
        qkv=_join([part.weight for part in projections]),
        bias=None if attention.q_proj.bias is None else _join([part.bias for part in projections]),
        out=attention.o_proj.weight.data,
        after=layer.post_attention_layernorm.weight.data,
        gate_up=_join([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=mlp.down_proj.weight.data,
        query_norm=_weight(getattr(attention, "q_norm", None)),
        key_norm=_weight(getattr(attention, "k_norm", None)),
    )


def _weight(norm: Any) -> Tensor | None:
    return None if norm is None else norm.weight.data


def _join(parts: Sequence[nn.Parameter]) -> Tensor:
    """Join all parts' rows into one tensor; the parts become views of it, unless they already are."""
    tensors = [part.data for part in parts]
    rows = sum(len(tensor) for tensor in tensors)
    storage = tensors[0].untyped_storage().data_ptr()
    ends = [tensor.data_ptr() + tensor.nbytes for tensor in tensors]
    joined = all(tensor.untyped_storage().data_ptr() == storage and tensor.is_contiguous() for tensor in tensors)
    if joined and all(end == tensor.data_ptr() for end, tensor in zip(ends, tensors[1:], strict=False)):
        return torch.as_strided(tensors[0], (rows, *tensors[0].shape[1:]), tensors[0].stride())
    whole = torch.cat(tensors)
    start = 0
    for part in parts:
        part.data = whole[start : start + len(part)]
        start += len(part)
    return whole
