"""Methods that prepare the task vectors once, whatever the weights, and then sum them.

Knows operands and options; no particular method.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.methods._result import Result, as_float32
from evovlm.methods._task_vectors import sum_of_weights
from evovlm.methods._unfit_result import UnfitResult, unfit_tensor
from evovlm.methods.definition import Prepare
from evovlm.methods.operand import Operand, as_read, spans
from evovlm.methods.options import MergeOptions
from evovlm.system.torch_threads import one_torch_thread

# The number of threads is a setting of the whole process.
_ALONE = threading.Lock()


def vector_dtype(base: torch.dtype) -> torch.dtype:
    """The dtype of prepared vectors, by the base's: sources are rounded to a base of 16 bits, and so are their vectors.

    That keeps each element within 2^-8 of its value (bfloat16) or 2^-11 (float16), halves what a candidate reads, and
    is far below what rounding the merged weights to such a dtype changes.
    """
    return base if base in (torch.bfloat16, torch.float16) else torch.float32


@dataclass(frozen=True)
class PreparedSum:
    """The rule of such a method: task arithmetic over the vectors that `prepare` returns, with the same rounding.

    If all operands have tables, the prepared vectors are kept there and used again for the same own options.
    """

    name: str
    prepare: Prepare

    def __call__(
        self, base: Tensor | None, operands: Sequence[Operand], options: MergeOptions, result: Result, chunk: int
    ) -> None:
        """Merge one tensor. Raises UnfitResult if `prepare` returns anything but a tensor of its shape per source."""
        assert base is not None
        vectors = [vector.reshape(-1) for vector in self.vectors(base, operands, options)]
        weights = [as_float32(operand.weight) for operand in operands]
        divisor = sum_of_weights(weights) if options.normalize else 1.0
        flat = base.detach().reshape(-1)
        for start, stop in spans(flat.numel(), chunk):
            tau = vectors[0][start:stop].float() * weights[0]
            for vector, weight in zip(vectors[1:], weights[1:], strict=True):
                tau.add_(vector[start:stop].float() * weight)
            if divisor != 1.0:
                tau.div_(divisor)
            if options.lambda_ != 1.0:
                tau.mul_(as_float32(options.lambda_))
            # Adding 0 turns -0 into 0, as in every sum of task vectors.
            result.write(start, stop, tau.add_(flat[start:stop].float() + 0.0))

    def vectors(self, base: Tensor, operands: Sequence[Operand], options: MergeOptions) -> list[Tensor]:
        """The prepared task vectors, of the base's shape, in source order; from the tables if they have them.

        They have the dtype that `vector_dtype` says. Made vectors go to the tables. Raises RecipeError as a merge does.
        """
        wanted = self.wanted(self.name, options)
        kept = [operand.tables.prepared for operand in operands if operand.tables is not None]
        found = [one[1] for one in kept if one is not None and one[0] == wanted]
        if len(found) == len(operands):
            return found
        found = self.made(base, [operand.tensor for operand in operands], options)
        for operand, vector in zip(operands, found, strict=True):
            if operand.tables is not None:
                operand.tables.prepared = (wanted, vector)
        return found

    def made(self, base: Tensor, sources: Sequence[Tensor], options: MergeOptions) -> list[Tensor]:
        """The same, made anew on the tensors' device. A tensor whose values are not all finite is averaged as it is."""
        wide, read = base.detach().float(), [as_read(source, base) for source in sources]
        if options.averaged or not all(bool(torch.isfinite(source - wide).all()) for source in read):
            return _rounded([(source - wide) / len(read) for source in read], base)
        with _one_thread(base.device):
            made = self.prepare(wide, read, options.own)
        why = self._misfit(made, base.shape, len(sources))
        if why is not None:
            raise UnfitResult(
                f"method: {self.name} prepared {why}; its function must return {len(sources)} tensors of shape"
                f" {list(base.shape)}, one per source"
            )
        return _rounded(made, base)

    @staticmethod
    def _misfit(made: object, shape: torch.Size, sources: int) -> str | None:
        """What was prepared in place of one task vector per source, in words; None if it is that."""
        if not isinstance(made, list | tuple):
            return f"{type(made).__name__} in place of a list"
        if len(made) != sources:
            return f"{len(made)} task vectors"
        return next((why for one in made if (why := unfit_tensor(one, shape)) is not None), None)

    @staticmethod
    def wanted(method: str, options: MergeOptions) -> tuple[object, ...]:
        """What the vectors of given models depend on: equal values mean equal vectors."""
        return method, options.own, options.averaged


def _rounded(vectors: Sequence[Tensor], base: Tensor) -> list[Tensor]:
    """The vectors as they are kept; one that is several sources' stays one."""
    kept = {id(vector): vector.detach().to(vector_dtype(base.dtype)).contiguous() for vector in vectors}
    return [kept[id(vector)] for vector in vectors]


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one CPU thread, since products of matrices are rounded otherwise by several; on a GPU as it is."""
    if device.type != "cpu":
        yield
        return
    with _ALONE, one_torch_thread():
        yield
