"""GPU kernels that merge a whole candidate in one pass over its bytes, bit-identical to the CPU.

Knows tensors, addresses and numbers; no models, recipes or files. Triton is an optional package (the extra `gpu`);
only `_fused`, `launch` and `tabulate` import it.
"""

from __future__ import annotations

from importlib.util import find_spec

from evovlm.methods import METHODS, TaskVectorSum
from evovlm.methods.interpolate import linear

# The kinds of drop that the fused pass supports: none, by random draw, by magnitude.
FUSED_DROPS = (None, "random", "magnitude")


def is_fused(method: str) -> bool:
    """Whether the fused pass supports a method: linear, or a sum of task vectors with a supported drop."""
    rule = METHODS[method].rule if method in METHODS else None
    return rule is linear or (isinstance(rule, TaskVectorSum) and rule.drop in FUSED_DROPS)


def fused_methods() -> list[str]:
    """The names of all registered methods that the fused pass supports, sorted."""
    return sorted(filter(is_fused, METHODS))


def triton_is_there() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None
