"""Kernels for the GPU: a whole candidate merged in one pass over its bytes, with the CPU's bits.

Knows tensors, addresses and numbers; no models, recipes or files. Triton is an optional package (the extra `gpu`):
`fused` and `tabulate` import it, and nothing else does.
"""

from __future__ import annotations

from importlib.util import find_spec

from evovlm.methods import METHODS, TaskVectorSum
from evovlm.methods.interpolate import linear

# What the fused pass can drop: nothing, by draw, or by magnitude.
FUSED_DROPS = (None, "random", "magnitude")


def is_fused(method: str) -> bool:
    """Whether the fused pass can do a method: linear, or a sum of task vectors whose drop it knows."""
    rule = METHODS[method].rule if method in METHODS else None
    return rule is linear or (isinstance(rule, TaskVectorSum) and rule.drop in FUSED_DROPS)


def fused_methods() -> list[str]:
    """All registered methods that the fused pass can do, by name."""
    return sorted(filter(is_fused, METHODS))


def triton_is_there() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None
