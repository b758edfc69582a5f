"""Whether a tensor holds numbers to compute with: finite, and not quantised. Knows one tensor; nothing of models."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 2**18  # elements at a time, because torch converts its whole input to the wider dtype first


def is_finite(tensor: Tensor) -> bool:
    """Whether all elements are finite; a mapped tensor is read once, piece by piece. Integers always are."""
    if not tensor.is_floating_point():
        return True
    flat = tensor.detach().reshape(-1)
    return all(_piece_is_finite(flat[start : start + PIECE]) for start in range(0, flat.numel(), PIECE))


def _piece_is_finite(piece: Tensor) -> bool:
    # One sum is cheaper than a test of each element; it may also overflow, so only then look at each.
    wide = piece if piece.itemsize > 1 else piece.float()  # torch has no sums of 8-bit floats
    return bool(torch.isfinite(wide.sum(dtype=torch.float32))) or bool(torch.isfinite(wide).all())


def is_quantised(name: str, dtype: torch.dtype) -> bool:
    """Whether a stored tensor is 8-bit weights, which mean nothing without the scales that lie beside them.

    Integer buffers, such as positions, are not.
    """
    if dtype.itemsize > 1 or dtype == torch.bool:
        return False
    return dtype.is_floating_point or name.endswith((".weight", ".bias"))
