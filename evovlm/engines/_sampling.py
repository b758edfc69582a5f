"""The next token: the likeliest, or one drawn by temperature from each item's own stream of random numbers.

Knows logits; no models. An item's draws depend on seed and item id alone, so a sampled answer is the same in any batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from evovlm.system.errors import DataError
from evovlm.tasks.protocol import Generation

# Logits [rows, vocabulary] and which prompt each row is [rows] -> value and token, both [rows].
Choose = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def sampler(generation: Generation, keys: Sequence[str]) -> Choose:
    """How the next tokens of a batch are chosen. `keys`: the items' ids. Raises DataError for sampled beams."""
    if generation.temperature == 0.0:
        return _likeliest
    if generation.num_beams > 1 or generation.repetition_penalty != 1.0:
        raise DataError("sampling goes with num_beams 1 and repetition_penalty 1; set them, or temperature 0")
    streams = [torch.Generator().manual_seed(zlib.crc32(f"{generation.seed} {key}".encode())) for key in keys]

    def draw(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        # The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel 1954).
        uniform = torch.stack([torch.rand(logits.shape[1], generator=streams[row]) for row in rows.tolist()])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        _, chosen = (logits / generation.temperature + noise.to(logits.device)).max(dim=-1)
        # The plain value, so that logits that are not finite are seen as such.
        return logits.amax(dim=-1), chosen

    return draw


def _likeliest(logits: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    best, chosen = logits.max(dim=-1)
    return best, chosen


def after_end(tokens: Tensor, ends: Tensor) -> Tensor:
    """Whatever stands behind a row's first end token becomes an end token."""
    ending = torch.isin(tokens, ends).long()
    return torch.where(ending.cumsum(dim=1) - ending > 0, ends[0], tokens)


def refuse_nan(_: Tensor, logits: Tensor) -> Tensor:
    """Logits as they are; a search must see a broken candidate fail, not answer."""
    # Beams may set single logits to -inf, so a row is judged by its largest: NaN there if NaN anywhere.
    if not bool(torch.isfinite(logits if logits.ndim == 1 else logits.amax(dim=-1)).all()):
        raise FloatingPointError("the logits are not finite")
    return logits
