"""Kernels for the GPU: a whole candidate merged in one pass over its bytes, with the CPU's bits.

Knows tensors, addresses and numbers; no models, recipes or files. Triton is an optional package (the extra `gpu`):
`fused` and `tabulate` import it, and nothing else does.
"""

from __future__ import annotations

from importlib.util import find_spec

from evovlm.methods import METHODS

# Methods that the fused pass can do: linear, and sums of task vectors with no drop, by draw or by magnitude.
FUSED = tuple(name for name, method in METHODS.items() if name == "linear" or method.drop in ("random", "magnitude"))
FUSED = (*FUSED, "task_arithmetic")


def triton_is_there() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None
