"""The inputs of a GPU merge: for each tensor, the elements of base and sources in the form the fused kernels read.

Knows assemblies and placements; no methods, weights or launches. Sources are rounded to the base's dtype, as the merge
is defined, or kept as 8-bit task vectors, whose quantisation error is summed up.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_stream import Wanted
from evovlm.merging.live.placement import Place, Placement
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.methods.kernels.eight_bit import Packed, pack, unpack
from evovlm.methods.kernels.layout import SHARED, Operands

BASE = "base"
_SCALES = "scales"  # of a source; no model label can look like `scales of NAME`
Name = tuple[str, str]


class DeviceSources:
    """Reads operands into device memory, or into host memory to stream from, as `placement` says by model label."""

    def __init__(self, assembly: Assembly, device: torch.device, placement: Placement, *, eight_bit: bool) -> None:
        self._assembly = assembly
        self._device = device
        self._places = placement.places
        self.needs_base = METHODS[assembly.recipe.method].needs_base
        self.eight_bit = eight_bit and self.needs_base
        self._packed: dict[Name, Packed] = {}
        self._lost: dict[str, tuple[float, float]] = {}

    @property
    def errors(self) -> dict[str, float]:
        """Relative 8-bit quantisation error of each source's task vector, |lost| / |delta|; empty if not quantised."""
        return {source: math.sqrt(lost / size) if size else 0.0 for source, (lost, size) in self._lost.items()}

    def serve_without_base(self) -> bool:
        """Whether the kept tensors also serve methods without a base, which need sources exactly as in their files."""
        if self.eight_bit:
            return False
        if not self.needs_base:
            return True
        rows = self._assembly.rows.values()
        return all(match.identity for match in rows) and all(
            self._assembly.source_tensor(job, source, name, None).dtype == self._dtype(job)
            for job in self._assembly.jobs
            for source, name in job.parts
        )

    def wanted(self, job: Job) -> list[Wanted]:
        """List the tensors that the merge of a job reads."""
        count = math.prod(job.shape)
        dtype = self._dtype(job)
        found = []
        if self.needs_base:
            place = self._places[self._assembly.recipe.base_label]
            found.append(Wanted((job.name, BASE), count, dtype, place, partial(self._base, job)))
        for source, name in job.parts:
            key = (job.name, _label(source))
            if not self.eight_bit:
                read = partial(self._source, job, source, name, dtype)
                found.append(Wanted(key, count, dtype, self._places[source], read))
                continue
            # Computed tensors cannot be memory-mapped.
            at: Place = "host" if self._places[source] == "disk" else self._places[source]
            found.append(Wanted(key, count, torch.int8, at, partial(self._values, job, source, name)))
            blocks = -(-count // SHARED)
            scales = partial(self._scales, job, source)
            found.append(Wanted((job.name, _label(source, _SCALES)), blocks, torch.float32, at, scales))
        return found

    def operands(self, job: Job, tensors: dict[Name, Tensor], out: Tensor, *, base: bool) -> Operands:
        """Return a job's operands, once its part is in device memory.

        tensors: flat, by name. out: the live parameter. base: whether to include the base.
        """
        assert out.is_contiguous(), f"{job.name}: a live parameter that is not contiguous cannot be filled in place"
        sources = [source for source, _ in job.parts]
        return Operands(
            out=out.view(-1),
            base=tensors[job.name, BASE] if base else None,
            sources=tuple(tensors[job.name, _label(source)] for source in sources),
            scales=tuple(tensors[job.name, _label(source, _SCALES)] for source in sources) if self.eight_bit else (),
        )

    def _dtype(self, job: Job) -> torch.dtype:
        """The base's dtype; without a base the sources' own if equal, else float32, which holds all exactly."""
        base = self._assembly.base_tensor(job) if self.needs_base else None
        if base is not None:
            return base.dtype
        dtypes = {self._assembly.source_tensor(job, source, name, None).dtype for source, name in job.parts}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32

    def _base(self, job: Job) -> Tensor:
        base = self._assembly.base_tensor(job)
        assert base is not None
        return base.reshape(-1)

    def _source(self, job: Job, source: str, name: str, dtype: torch.dtype) -> Tensor:
        base = self._assembly.base_tensor(job) if self.needs_base else None
        return self._assembly.source_tensor(job, source, name, base).reshape(-1).to(dtype)

    def _values(self, job: Job, source: str, name: str) -> Tensor:
        base = self._base(job).to(self._device)
        tuned = self._source(job, source, name, base.dtype).to(self._device)
        packed = pack(tuned.float() - base.float())
        self._packed[job.name, source] = packed
        lost, size = self._lost.get(source, (0.0, 0.0))
        self._lost[source] = (lost + packed.error, size + packed.size)
        return packed.values

    def _scales(self, job: Job, source: str) -> Tensor:
        return self._packed.pop((job.name, source)).scales  # values are read first


def task_vector(operands: Operands, source: int) -> Tensor:
    """Return one source's task vector as the fused pass sees it: float32, flat, on the device."""
    values = operands.sources[source]
    if operands.scales:
        return unpack(values, operands.scales[source])
    assert operands.base is not None
    return values.float().sub_(operands.base.float())


def _label(source: str, kind: str = "values") -> str:
    return f"{kind} of {source}"
