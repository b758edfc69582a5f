"""Run a method on one tensor. Knows operands and options; not which tensor of which model it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evovlm.methods._result import Result
from evovlm.methods.operand import CHUNK, Operand
from evovlm.methods.options import MergeOptions
from evovlm.methods.table import find_method
from evovlm.system.errors import RecipeError


@torch.no_grad()
def merge_tensor(
    method: str,
    base: Tensor | None,
    operands: Sequence[Operand],
    options: MergeOptions,
    *,
    dtype: torch.dtype,
    out: Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """Merge one tensor: compute in float32, round to `dtype`. Returns `out`, or a new tensor.

    base: the ancestor's tensor, for methods that need or use one. operands: in source order, all of the same shape.
    options: from `resolve_options`. out: filled in place with values rounded to `dtype`, whatever its own dtype; it
    may be the base. chunk: elements processed at a time; the result does not depend on it. Working memory is a few
    chunks plus one byte per element and source.

    Safe to call from several threads at once with different tensors; the work runs outside Python's GIL.
    Raises RecipeError if the method is unknown, needs a base and has none, does not take this many sources, or the
    shapes differ.
    """
    found = find_method(method)
    read = base if found.reads_base(given=base is not None) else None
    _check_shapes(read, operands)
    check_inputs(method, len(operands), has_base=base is not None)
    result = Result(operands[0].tensor.shape, dtype, out, chunk)
    found.rule(read, operands, options, result, chunk)
    return result.finish()


def check_inputs(method: str, sources: int, *, has_base: bool) -> None:
    """Raise RecipeError if a method is unknown, needs a base and has none, or does not take this many sources."""
    found = find_method(method)
    if found.needs_base and not has_base:
        raise RecipeError(f"method: {method} works on task vectors; name their base model under `base`")
    if not found.takes(sources):
        raise RecipeError(f"sources: {method} takes {found.sources_in_words}, not {sources}")


def _check_shapes(base: Tensor | None, operands: Sequence[Operand]) -> None:
    if not operands:
        raise RecipeError("sources: nothing to merge; name at least one source")
    tensors = [*([] if base is None else [base]), *(operand.tensor for operand in operands)]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise RecipeError(f"sources: shapes differ, {sorted(shapes)}; merge models of the same architecture")
