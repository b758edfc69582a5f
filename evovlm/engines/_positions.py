"""Where tokens lie, and what else the loop over transformers' layers passes on: each family's decoder and its inputs.

Knows prompts and the names that transformers' models use; runs no layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evovlm.engines._tower_view import AXES
from evovlm.engines.prompts import Prompt

# Where a vision-language model of transformers has its decoder.
DECODERS = ("language_model", "text_model")


def decoder_of(model: Any, *, sees: bool) -> Any:
    """The decoder of a causal model, or of a VLM's language tower: embeddings, layers and norm."""
    return next(getattr(model.model, name) for name in DECODERS if hasattr(model.model, name)) if sees else model.model


def first_context(prompts: Sequence[Prompt], ids: Tensor, mask: Tensor, image_token: int | None) -> dict[str, Any]:
    """Positions of a batch that is padded on the left, and what is added at image tokens after the first layers.

    ids, mask: int64 [batch, length]. Positions are int64 [batch, length], or [axes, batch, length] if a prompt has its
    own in several directions.
    """
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    if any(prompt.axes is not None for prompt in prompts):
        positions = positions.expand(AXES, *positions.shape).clone()
        for row, prompt in enumerate(prompts):
            if prompt.axes is not None:
                positions[:, row, ids.shape[1] - len(prompt.ids) :] = prompt.axes
    context: dict[str, Any] = {"position_ids": positions}
    deep = [prompt.deep for prompt in prompts if prompt.deep is not None]
    if deep:
        context["visual_pos_masks"] = (ids == image_token) & (mask == 1)
        context["deepstack_visual_embeds"] = list(torch.cat(deep, dim=1))
    return context


def after(positions: Tensor) -> Tensor:
    """The positions of the next token, after those of all tokens: int64 [batch, length] or [axes, batch, length]."""
    last = positions[..., -1:]
    return (last if last.ndim == 2 else last.amax(dim=0, keepdim=True).expand_as(last)) + 1
