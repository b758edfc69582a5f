"""GPU kernels that merge a whole candidate in one pass over its bytes, bit-identical to the CPU.

Knows tensors, addresses and numbers; no models, recipes or files. Triton is an optional package (the extra `gpu`);
only `_fused`, `launch`, `tabulate` and `device_draws` import it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from evovlm.methods import METHODS, MergeOptions, TaskVectorSum, resolve_options
from evovlm.methods.interpolate import by_row, copy_single, linear, model_stock, slerp

# The kinds of drop that the fused pass supports: none, by random draw, by magnitude, by a window of magnitudes.
FUSED_DROPS = (None, "random", "magnitude", "breadcrumbs")
# Weighted sums of whole tensors; the weights of the last two need dot products, which no candidate changes.
FUSED_BLENDS = (linear, copy_single, slerp, model_stock)

# fused: one pass over all tensors. masked: one tensor at a time, with masks made before the fused pass. whole: one
# tensor at a time, by the method's own rule.
Way = Literal["fused", "masked", "whole"]


def way_of(method: str, options: MergeOptions) -> Way:
    """How a method is merged on a GPU.

    Masks come before the pass if they need ranks within rows (della), or if a sum over the kept elements has no table
    (breadcrumbs with `rescale: l1`).
    """
    rule = METHODS[method].rule
    if rule in FUSED_BLENDS:
        # With a ratio for each row, a weight is no longer one number per tensor.
        return "whole" if rule is model_stock and by_row(options) else "fused"
    if not isinstance(rule, TaskVectorSum):
        return "whole"
    if rule.drop not in FUSED_DROPS or (rule.drop == "breadcrumbs" and options.rescale == "l1"):
        return "masked"
    return "fused"


def sums_fused(method: str, options: MergeOptions) -> bool:
    """Whether the fused pass sums a method's task vectors, so that they may be kept in 8 bits."""
    return isinstance(METHODS[method].rule, TaskVectorSum) and way_of(method, options) == "fused"


def fused_methods() -> list[str]:
    """The names of all registered methods that the fused pass supports with their default options, sorted."""
    return sorted(name for name in METHODS if way_of(name, _defaults(name)) == "fused")


def fused_sums() -> list[str]:
    """Those of them that sum task vectors."""
    return [name for name in fused_methods() if sums_fused(name, _defaults(name))]


def _defaults(method: str) -> MergeOptions:
    return resolve_options(method, None, None, 1.0, 0.0, 0.0)


def triton_is_there() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None
