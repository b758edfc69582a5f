"""What a GPU merge reads, loaded once: sources, their base, or task vectors in 8 bits, each when it is first needed.

Knows assemblies, parts and placements; no methods, weights or launches. Where a source or the base lacks vocabulary
rows, what fills them depends on whether the merge has a base; these few rows are exchanged in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_operands import DeviceSources, Kind, Kinds, Name, source_of
from evovlm.merging.live._gpu_stream import Feed
from evovlm.merging.live.placement import Placement
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import vector_dtype

# Where models are kept that are first needed after the start. Called with bytes by label.
Later = Callable[[dict[str, int]], Placement]


@dataclass(frozen=True)
class _Patch:
    """Rows of one source's tensor of a part, and their values by whether the merge has a base: [rows, columns]."""

    job: Job
    source: str
    rows: Tensor
    values: dict[bool, Tensor]


class Store:
    """The tensors of one assembly, by part.

    parts: the jobs of each part. kinds: loaded at once, as `placement` says; others later, as `later` says. room: bytes
    that blocks of streamed parts may take on the device. tell: called with one sentence on what is loaded later.
    """

    def __init__(
        self,
        assembly: Assembly,
        device: torch.device,
        parts: Sequence[Sequence[Job]],
        kinds: Kinds,
        placement: Placement,
        later: Later,
        room: float,
        tell: Callable[[str], None],
    ) -> None:
        self._assembly, self._device, self._parts = assembly, device, parts
        self._later, self._room, self._tell = later, room, tell
        self._kept_form = "base" in kinds  # of the sources' vocabulary rows
        self._reader = DeviceSources(assembly, device, with_base=self._kept_form)
        self._feeds: dict[Kind, Feed] = {}
        self._patches: list[list[_Patch]] = []
        self._forms: dict[tuple[int, str], bool] = {}  # of resident sources, by part and source
        self._placements: dict[Kind, Placement] = {}
        self._prepared: object = None  # what the loaded vectors were made by
        for kind in kinds:
            self._load(assembly, kind, placement)

    @property
    def errors(self) -> dict[str, float]:
        """Relative 8-bit quantisation error of each source's task vector, |lost| / |delta|; empty if not quantised."""
        return self._reader.errors

    @property
    def device_bytes(self) -> int:
        """Bytes of all tensors that are kept on the device."""
        return sum(feed.device_bytes for feed in self._feeds.values())

    def streams(self, kinds: Kinds) -> bool:
        """Whether a merge that reads these kinds has any of them streamed."""
        return any(self._feeds[kind].streams for kind in kinds)

    def need(self, kinds: Kinds, candidate: Assembly, name: str) -> bool:
        """Load what is not there yet for a candidate of a method, by name; returns whether addresses have changed.

        Vectors of another method, or of other options, make room first. Raises MemoryError or torch.OutOfMemoryError if
        it does not fit.
        """
        other = "vectors" in self._feeds and "vectors" in kinds and self._prepared != _prepared_by(candidate)
        if other:
            del self._feeds["vectors"]
        for kind in kinds:
            if kind not in self._feeds:
                placement = self._later(self._nbytes(kind))
                self._tell(f"loaded for {name}, once: {placement.in_words()}")
                self._load(candidate, kind, placement)
        return other

    def tensors(self, kinds: Kinds, part: int) -> dict[Name, Tensor]:
        """Return a part's tensors by name; streamed ones are valid between `ready` and `done`."""
        return {name: tensor for kind in kinds for name, tensor in self._feeds[kind].tensors(part).items()}

    def begin(self, kinds: Kinds) -> None:
        """Start streaming the first parts of a candidate."""
        for kind in kinds:
            self._feeds[kind].begin()

    def ready(self, kinds: Kinds, part: int) -> None:
        """Make the current stream wait for a part's tensors, and give them the rows of such a merge."""
        for kind in kinds:
            self._feeds[kind].ready(part)
        if "sources" not in kinds:
            return
        form = "base" in kinds
        for patch in self._patches[part]:
            resident = self._placements["sources"].places[patch.source] == "gpu"
            held = self._forms.get((part, patch.source), self._kept_form) if resident else self._kept_form
            if held != form:
                tensor = source_of(patch.job, patch.source, self._feeds["sources"].tensors(part))
                tensor.view(patch.job.shape)[patch.rows] = patch.values[form]
        self._forms.update({(part, patch.source): form for patch in self._patches[part]})

    def done(self, kinds: Kinds, part: int) -> None:
        """Allow later parts to reuse this part's slots once the current stream has reached this point."""
        for kind in kinds:
            self._feeds[kind].done(part)

    def _load(self, candidate: Assembly, kind: Kind, placement: Placement) -> None:
        wanted = [
            [one for job in jobs for one in self._reader.wanted(candidate, job, kind, placement.places)]
            for jobs in self._parts
        ]
        if kind == "vectors":
            self._prepared = _prepared_by(candidate)
        models = 1 if kind == "base" else len(self._assembly.recipe.sources)
        room = self._room * models / (1 + len(self._assembly.recipe.sources))
        self._feeds[kind] = Feed(wanted, self._device, room)
        self._placements[kind] = placement
        if kind == "sources":
            self._patches = [[patch for job in jobs for patch in self._patches_of(job)] for jobs in self._parts]

    def _patches_of(self, job: Job) -> list[_Patch]:
        found = []
        for source, name in job.parts:
            rows = self._assembly.filled_rows(job, source)
            if rows is None:
                continue
            values = {
                form: self._reader.source(job, source, name, with_base=form).view(job.shape)[rows].to(self._device)
                for form in (True, False)
            }
            found.append(_Patch(job, source, rows.to(self._device), values))
        return found

    def _nbytes(self, kind: Kind) -> dict[str, int]:
        jobs = [job for part in self._parts for job in part]
        if kind == "base":
            size = sum(math.prod(job.shape) * self._assembly.base_dtype(job).itemsize for job in jobs)
            return {self._assembly.recipe.base_label: size}
        found: dict[str, int] = {}
        for job in jobs:
            for source, name in job.parts:
                dtype = self._assembly.source_dtype(source, name)
                if kind == "vectors":
                    dtype = vector_dtype(self._assembly.base_dtype(job))
                size = math.prod(job.shape) * dtype.itemsize
                found[source] = found.get(source, 0) + size
        return found


def _prepared_by(candidate: Assembly) -> object:
    """What a candidate's prepared vectors are made by: equal values mean equal vectors."""
    return candidate.recipe.method, candidate.options.own
