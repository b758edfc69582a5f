"""A merge method defined as a function of whole tensors. Knows operands and options, but no particular method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from evovlm.methods._result import Result
from evovlm.methods._unfit_result import UnfitResult, unfit_tensor
from evovlm.methods.operand import Operand, as_read, spans
from evovlm.methods.options import MergeOptions

Function = Callable[[Tensor | None, Sequence[Operand], MergeOptions], Tensor]


@dataclass(frozen=True)
class WholeTensor:
    """The rule for such a function: it gets float32 tensors and returns the merged tensor, written chunk by chunk."""

    name: str
    function: Function

    def __call__(
        self, base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
    ) -> None:
        """Merge one tensor. Sources are first rounded to the base's dtype, as in every task-vector method.

        Raises UnfitResult if the function returns anything but a tensor of the shape that it was given.
        """
        shape = operands[0].tensor.shape
        read = [replace(operand, tensor=as_read(operand.tensor, base)) for operand in operands]
        merged = self.function(None if base is None else base.detach().float(), read, options)
        why = unfit_tensor(merged, shape)
        if why is not None:
            raise UnfitResult(
                f"method: {self.name} returned {why} for tensors of shape {list(shape)}; its function must return a"
                " tensor of the shape that it is given"
            )
        flat = merged.detach().float().reshape(-1)
        for start, stop in spans(flat.numel(), chunk):
            result.write(start, stop, flat[start:stop])
