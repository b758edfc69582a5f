"""Chooses the next token: the most likely one, or one sampled at a temperature from each item's own random stream.

Knows logits; no models. An item's draws depend only on seed and item id, so a sampled answer is the same in any batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from evovlm.system.errors import DataError, NotFinite
from evovlm.tasks.protocol import Generation

# (logits [rows, vocabulary], index of each row's prompt [rows]) -> (largest logit, chosen token), both [rows].
Choose = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def sampler(generation: Generation, keys: Sequence[str]) -> Choose:
    """Return the function that chooses a batch's next tokens. `keys`: the items' ids.

    Raises DataError for sampling with beams or a repetition penalty.
    """
    if generation.temperature == 0.0:
        return _likeliest
    if generation.num_beams > 1 or generation.repetition_penalty != 1.0:
        raise DataError("sampling needs num_beams 1 and repetition_penalty 1; set them, or set temperature to 0")
    streams = [torch.Generator().manual_seed(zlib.crc32(f"{generation.seed} {key}".encode())) for key in keys]

    def draw(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        # The argmax of logits plus Gumbel noise is a sample from their softmax (Gumbel 1954).
        uniform = torch.stack([torch.rand(logits.shape[1], generator=streams[row]) for row in rows.tolist()])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        _, chosen = (logits / generation.temperature + noise.to(logits.device)).max(dim=-1)
        # Return the value without noise, so that the caller detects logits that are not finite.
        return logits.amax(dim=-1), chosen

    return draw


def _likeliest(logits: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    best, chosen = logits.max(dim=-1)
    return best, chosen


def after_end(tokens: Tensor, ends: Tensor) -> Tensor:
    """Replace everything after a row's first end token with end tokens: int64 [rows, length]."""
    ending = torch.isin(tokens, ends).long()
    return torch.where(ending.cumsum(dim=1) - ending > 0, ends[0], tokens)


def refuse_nan(_: Tensor, logits: Tensor) -> Tensor:
    """Return the logits unchanged; raises NotFinite if they are not finite.

    In a search, a broken candidate must fail instead of answering.
    """
    # Beams may set single logits to -inf, so only a row's maximum is checked: it is NaN if any logit is.
    if not bool(torch.isfinite(logits if logits.ndim == 1 else logits.amax(dim=-1)).all()):
        raise NotFinite("the logits are not finite")
    return logits
