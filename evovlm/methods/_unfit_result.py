"""What a method's function returns in place of merged tensors. Knows tensors; no methods."""

from __future__ import annotations

import torch
from torch import Tensor

from evovlm.system.errors import RecipeError


class UnfitResult(RecipeError):
    """What a method's function returned is no merge of its tensors, whatever the weights."""


def unfit_tensor(found: object, shape: torch.Size) -> str | None:
    """What is wrong with a function's result, in words; None if it is a tensor of that shape with real values."""
    if not isinstance(found, Tensor):
        return "None" if found is None else f"an object of the type {type(found).__name__}"
    if found.layout != torch.strided or found.is_nested or found.is_quantized:
        return "a tensor that is not dense"
    if found.device.type == "meta":
        return "a tensor without values (on the device `meta`)"
    if found.is_complex():
        return "a tensor of complex numbers"
    if not found.is_floating_point():
        return f"a tensor of the type {str(found.dtype).removeprefix('torch.')}, which has no fractions"
    return None if found.shape == shape else f"shape {list(found.shape)}"
