"""The inputs of a GPU merge: for each tensor, the elements of base and sources in the form the fused kernels read.

Knows assemblies and placements; no methods, weights or launches. Sources are kept as their files have them, so that
they serve every method: the kernels round them to the base's dtype, as task vectors are defined. As 8-bit task vectors,
whose quantisation error is summed up, they serve only methods that sum task vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_stream import Wanted
from evovlm.merging.live.placement import Place
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import vector_dtype
from evovlm.methods.kernels.eight_bit import Packed, pack, unpack
from evovlm.methods.kernels.layout import SHARED, Operands

BASE = "base"
_VALUES, _SCALES, _VECTOR = "values", "scales", "vector"  # of a source; no model label can look like `scales of NAME`
Name = tuple[str, str]
# What a merge reads. packed: task vectors in 8 bits. vectors: task vectors that a method has prepared.
Kind = Literal["base", "sources", "packed", "vectors"]
Kinds = tuple[Kind, ...]


class DeviceSources:
    """Lists how operands are read into device memory, or into host memory to stream from.

    with_base: whether sources are read with the vocabulary rows that a merge with a base fills in (see
    `Assembly.source_tensor`).
    """

    def __init__(self, assembly: Assembly, device: torch.device, *, with_base: bool) -> None:
        self._assembly = assembly
        self._device = device
        self._with_base = with_base
        self._packed: dict[Name, Packed] = {}
        self._lost: dict[str, tuple[float, float]] = {}
        self._vectors: tuple[Job, list[Tensor]] | None = None  # of the tensor that was read last

    @property
    def errors(self) -> dict[str, float]:
        """Relative 8-bit quantisation error of each source's task vector, |lost| / |delta|; empty if not quantised."""
        return {source: math.sqrt(lost / size) if size else 0.0 for source, (lost, size) in self._lost.items()}

    def wanted(self, candidate: Assembly, job: Job, kind: Kind, places: Mapping[str, Place]) -> list[Wanted]:
        """List the tensors of a kind that a candidate's merge of a job reads. places: by model label."""
        count = math.prod(job.shape)
        if kind == "base":
            dtype, place = self._assembly.base_dtype(job), places[self._assembly.recipe.base_label]
            span = self._assembly.span(job, self._assembly.recipe.base_label, job.name)
            return [Wanted((job.name, BASE), count, dtype, place, partial(self._base, job), span)]
        found = []
        for source, name in job.parts:
            key, place = (job.name, _label(source)), places[source]
            if kind == "sources":
                dtype = self._assembly.source_dtype(source, name)
                read = partial(self.source, job, source, name, with_base=self._with_base)
                found.append(Wanted(key, count, dtype, place, read, self._assembly.span(job, source, name)))
                continue
            if kind == "vectors":
                found.append(self._wanted_vector(candidate, job, source, key, place))
                continue
            # Computed tensors cannot be memory-mapped.
            at: Place = "host" if place == "disk" else place
            found.append(Wanted(key, count, torch.int8, at, partial(self._values, job, source, name)))
            blocks = -(-count // SHARED)
            scales = partial(self._scales, job, source)
            found.append(Wanted((job.name, _label(source, _SCALES)), blocks, torch.float32, at, scales))
        return found

    def _wanted_vector(self, candidate: Assembly, job: Job, source: str, key: Name, place: Place) -> Wanted:
        """One prepared vector; without files it is made once, and kept in host memory instead of on disk."""
        at: Place = "host" if place == "disk" and self._assembly.vectors is None else place
        index = [name for name, _ in job.parts].index(source)
        read = partial(self._vector, candidate, job, index)
        dtype = vector_dtype(self._assembly.base_dtype(job))
        return Wanted((key[0], _label(source, _VECTOR)), math.prod(job.shape), dtype, at, read)

    def _vector(self, candidate: Assembly, job: Job, index: int) -> Tensor:
        if self._vectors is None or self._vectors[0] != job or index == 0:
            self._vectors = job, candidate.vectors_of(job, self._device)
        found = self._vectors[1]
        if index == len(found) - 1:
            self._vectors = None  # vectors are read in order
        return found[index].reshape(-1)

    def source(self, job: Job, source: str, name: str, *, with_base: bool) -> Tensor:
        """A source's elements, flat, with the vocabulary rows of a merge with or without a base."""
        base = self._assembly.base_tensor(job) if with_base else None
        return self._assembly.source_tensor(job, source, name, base).reshape(-1)

    def _base(self, job: Job) -> Tensor:
        base = self._assembly.base_tensor(job)
        assert base is not None
        return base.reshape(-1)

    def _values(self, job: Job, source: str, name: str) -> Tensor:
        base = self._base(job).to(self._device)
        tuned = self.source(job, source, name, with_base=True).to(self._device).to(base.dtype)
        packed = pack(tuned.float() - base.float())
        self._packed[job.name, source] = packed
        lost, size = self._lost.get(source, (0.0, 0.0))
        self._lost[source] = (lost + packed.error, size + packed.size)
        return packed.values

    def _scales(self, job: Job, source: str) -> Tensor:
        return self._packed.pop((job.name, source)).scales  # values are read first


def operands_of(job: Job, kinds: Kinds, tensors: Mapping[Name, Tensor], out: Tensor) -> Operands:
    """Return a job's operands for merges that read these kinds.

    tensors: flat, by name, on the device. out: the live parameter.
    """
    assert out.is_contiguous(), f"{job.name}: a live parameter that is not contiguous cannot be filled in place"
    sources = [source for source, _ in job.parts]
    values = _VECTOR if "vectors" in kinds else _VALUES
    return Operands(
        out=out.view(-1),
        base=tensors[job.name, BASE] if "base" in kinds else None,
        sources=tuple(tensors[job.name, _label(source, values)] for source in sources),
        scales=tuple(tensors[job.name, _label(source, _SCALES)] for source in sources) if "packed" in kinds else (),
    )


def source_of(job: Job, source: str, tensors: Mapping[Name, Tensor]) -> Tensor:
    """One source's elements among a part's tensors."""
    return tensors[job.name, _label(source)]


def task_vector(operands: Operands, source: int) -> Tensor:
    """Return one source's task vector as the fused pass sees it: float32, flat, on the device."""
    values = operands.sources[source]
    if operands.scales:
        return unpack(values, operands.scales[source])
    assert operands.base is not None
    return values.to(operands.base.dtype).float() - operands.base.float()


def _label(source: str, kind: str = _VALUES) -> str:
    return f"{kind} of {source}"
