"""The zoo's forward pass as plain functions over named tensors, for training.

It computes the same as transformers' Mistral, CLIP and Llava models (a test compares them), but without modules, masks
or host synchronisation, so that a whole training step fits in a CUDA graph. Knows no data and no optimiser.

Names: the causal-LM layout for the tower, `vision_tower.vision_model.*` and `multi_modal_projector.*` for the eyes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evovlm.models.layouts import EMBEDDING, FINAL_NORM, OUTPUT_HEAD

VISION = "vision_tower.vision_model."
PROJECTOR = "multi_modal_projector."


@dataclass(frozen=True)
class Shape:
    """Widths and depths of a zoo model."""

    vocabulary: int
    hidden: int = 128
    layers: int = 8
    inner: int = 384
    heads: int = 4
    kv_heads: int = 2
    vision_hidden: int = 128
    vision_layers: int = 4
    vision_inner: int = 256
    vision_heads: int = 4
    image: int = 96  # side length in pixels
    patch: int = 16

    @property
    def image_tokens(self) -> int:
        """The number of tokens per image."""
        return (self.image // self.patch) ** 2


def init_tower(shape: Shape, rng: torch.Generator) -> dict[str, Tensor]:
    """A new language tower, float32: normal with standard deviation 0.02, as transformers initialises Mistral."""
    width, head = shape.hidden, shape.hidden // shape.heads
    sizes = {EMBEDDING: (shape.vocabulary, width)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        sizes[prefix + "self_attn.q_proj.weight"] = (width, width)
        sizes[prefix + "self_attn.k_proj.weight"] = (shape.kv_heads * head, width)
        sizes[prefix + "self_attn.v_proj.weight"] = (shape.kv_heads * head, width)
        sizes[prefix + "self_attn.o_proj.weight"] = (width, width)
        sizes[prefix + "mlp.gate_proj.weight"] = (shape.inner, width)
        sizes[prefix + "mlp.up_proj.weight"] = (shape.inner, width)
        sizes[prefix + "mlp.down_proj.weight"] = (width, shape.inner)
    sizes[OUTPUT_HEAD] = (shape.vocabulary, width)
    tower = {name: torch.randn(size, generator=rng) * 0.02 for name, size in sizes.items()}
    for layer in range(shape.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tower[f"model.layers.{layer}.{norm}.weight"] = torch.ones(width)
    tower[FINAL_NORM] = torch.ones(width)
    return tower


def init_eyes(shape: Shape, rng: torch.Generator) -> dict[str, Tensor]:
    """A new CLIP vision tower and projector, float32: normal with standard deviation 0.02, biases 0."""
    width, patches = shape.vision_hidden, shape.image_tokens
    sizes: dict[str, tuple[int, ...]] = {
        VISION + "embeddings.class_embedding": (width,),
        VISION + "embeddings.patch_embedding.weight": (width, 3, shape.patch, shape.patch),
        VISION + "embeddings.position_embedding.weight": (patches + 1, width),
    }
    linear: dict[str, tuple[int, int]] = {}
    for layer in range(shape.vision_layers):
        prefix = f"{VISION}encoder.layers.{layer}."
        linear |= {f"{prefix}self_attn.{name}": (width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        linear |= {f"{prefix}mlp.fc1": (shape.vision_inner, width), f"{prefix}mlp.fc2": (width, shape.vision_inner)}
    linear[PROJECTOR + "linear_1"] = (shape.hidden, width)
    linear[PROJECTOR + "linear_2"] = (shape.hidden, shape.hidden)
    eyes = {name: torch.randn(size, generator=rng) * 0.02 for name, size in sizes.items()}
    for name, size in linear.items():
        eyes[name + ".weight"] = torch.randn(size, generator=rng) * 0.02
        eyes[name + ".bias"] = torch.zeros(size[0])
    norms = [
        f"{VISION}encoder.layers.{layer}.layer_norm{which}" for layer in range(shape.vision_layers) for which in (1, 2)
    ]
    for name in (*norms, VISION + "pre_layrnorm", VISION + "post_layernorm"):
        eyes[name + ".weight"], eyes[name + ".bias"] = torch.ones(width), torch.zeros(width)
    return eyes


def see(weights: Mapping[str, Tensor], shape: Shape, pixels: Tensor) -> Tensor:
    """Image features in the tower's space: pixels [batch, 3, side, side] in -1..1 to [batch, image tokens, hidden]."""
    patches = F.conv2d(pixels, weights[VISION + "embeddings.patch_embedding.weight"], stride=shape.patch)
    patches = patches.flatten(2).transpose(1, 2)
    first = weights[VISION + "embeddings.class_embedding"].expand(pixels.shape[0], 1, -1)
    states = torch.cat([first, patches], dim=1) + weights[VISION + "embeddings.position_embedding.weight"]
    states = _layer_norm(weights, VISION + "pre_layrnorm", states)
    for layer in range(shape.vision_layers):
        prefix = f"{VISION}encoder.layers.{layer}."
        normed = _layer_norm(weights, prefix + "layer_norm1", states)
        query, key, value = (
            _split(_linear(weights, f"{prefix}self_attn.{name}_proj", normed), shape.vision_heads) for name in "qkv"
        )
        mixed = _join(F.scaled_dot_product_attention(query, key, value))
        states = states + _linear(weights, prefix + "self_attn.out_proj", mixed)
        inner = _linear(weights, prefix + "mlp.fc1", _layer_norm(weights, prefix + "layer_norm2", states))
        states = states + _linear(weights, prefix + "mlp.fc2", inner * torch.sigmoid(1.702 * inner))
    projected = F.gelu(_linear(weights, PROJECTOR + "linear_1", states[:, 1:]))
    return _linear(weights, PROJECTOR + "linear_2", projected)


def read(weights: Mapping[str, Tensor], shape: Shape, embeds: Tensor) -> Tensor:
    """The tower's normalised last hidden states, [batch, length, hidden] as `embeds`; causal, positions from 0."""
    states = embeds
    turn = _rotation(embeds.shape[1], shape.hidden // shape.heads, embeds)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        normed = _rms_norm(states, weights[prefix + "input_layernorm.weight"])
        query, key, value = (
            _split(F.linear(normed, weights[f"{prefix}self_attn.{name}_proj.weight"]), heads)
            for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads))
        )
        repeat = shape.heads // shape.kv_heads
        key, value = (_rotate(key, turn)).repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
        mixed = F.scaled_dot_product_attention(_rotate(query, turn), key, value, is_causal=True)
        states = states + F.linear(_join(mixed), weights[prefix + "self_attn.o_proj.weight"])
        normed = _rms_norm(states, weights[prefix + "post_attention_layernorm.weight"])
        gate = F.silu(F.linear(normed, weights[prefix + "mlp.gate_proj.weight"]))
        inner = gate * F.linear(normed, weights[prefix + "mlp.up_proj.weight"])
        states = states + F.linear(inner, weights[prefix + "mlp.down_proj.weight"])
    return _rms_norm(states, weights[FINAL_NORM])


def embed(weights: Mapping[str, Tensor], ids: Tensor, features: Tensor | None = None) -> Tensor:
    """Token embeddings [batch, length, hidden], with the image features, if any, in front."""
    embeds = F.embedding(ids, weights[EMBEDDING])
    return embeds if features is None else torch.cat([features, embeds], dim=1)


def _rms_norm(states: Tensor, weight: Tensor) -> Tensor:
    wide = states.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
    return scaled.to(states.dtype) * weight


def _layer_norm(weights: Mapping[str, Tensor], name: str, states: Tensor) -> Tensor:
    return F.layer_norm(states, states.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], 1e-5)


def _linear(weights: Mapping[str, Tensor], name: str, states: Tensor) -> Tensor:
    return F.linear(states, weights[name + ".weight"], weights[name + ".bias"])


def _split(states: Tensor, heads: int) -> Tensor:
    batch, length, width = states.shape
    return states.view(batch, length, heads, width // heads).transpose(1, 2)


def _join(states: Tensor) -> Tensor:
    return states.transpose(1, 2).flatten(2)


def _rotation(length: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    steps = torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width
    angles = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * (10000.0**-steps)[None]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotate(states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    low, high = states.chunk(2, dim=-1)
    return states * turn[0] + torch.cat([-high, low], dim=-1) * turn[1]
