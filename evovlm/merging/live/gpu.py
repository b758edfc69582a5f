"""The GPU merger: merges candidates into the live parameters of a resident model, with the fused kernels.

Knows assemblies, live parameters and where their sources are kept; no tasks, scores or engines. Parameters never move,
so a CUDA graph captured from the model works for every candidate. Tables of thresholds and sums are built on first use.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.live._gpu_operands import DeviceSources
from evovlm.merging.live._gpu_stream import Feed
from evovlm.merging.live._gpu_terms import Levels, Shares, levels_of
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.lazy import Pending
from evovlm.merging.live.placement import Placement
from evovlm.merging.tensor_jobs import Job
from evovlm.merging.unfit_weights import refuse_unfit_weights
from evovlm.methods import METHODS
from evovlm.methods.kernels import fused_methods, is_fused
from evovlm.methods.kernels.launch import Shape, merge_batch, shape_for
from evovlm.methods.kernels.layout import Batch, Operands, form_of, make_batch
from evovlm.methods.kernels.numbers import divisors_of, rows_of
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.device import current_gpu
from evovlm.system.errors import NotFinite, RecipeError

# Elements per part: few launches if everything is on the GPU, small blocks in flight if sources are streamed.
RESIDENT_PART = 512 << 20
STREAMED_PART = 64 << 20
# Share of the GPU's memory for blocks in flight; it comes out of the share kept free for caches and activations.
STREAMED_SHARE = 0.15
# Sort key of tensors that come after the last layer.
LAST = sys.maxsize

Parts = Sequence[tuple["_Launch", ...]]


@dataclass(frozen=True)
class _Launch:
    """A batch, its jobs, and the pinned memory from which its numbers and divisors are copied to the GPU."""

    batch: Batch
    jobs: tuple[Job, ...]
    operands: tuple[Operands, ...]
    numbers: Tensor
    divisors: Tensor


class DeviceMerger:
    """Merges candidates of one recipe into live parameters on their device.

    tower: canonical name -> parameter, all on one device, each contiguous. placement: where the base (the recipe's
    `base_label`) and the sources are kept. eight_bit: keep task vectors in 8 bits; `errors` then gives each source's
    quantisation error.
    pending: shared with an engine that requests each layer before using it; streamed sources are then merged lazily.
    Raises RecipeError if the method has no fused kernel.
    """

    def __init__(
        self,
        assembly: Assembly,
        tower: Mapping[str, torch.nn.Parameter],
        placement: Placement,
        *,
        eight_bit: bool = False,
        pending: Pending | None = None,
        shape: Shape | None = None,
        part_elements: int | None = None,
    ) -> None:
        _refuse_unfused(assembly.recipe.method)
        self._assembly = assembly
        self._device = next(iter(tower.values())).device
        self._shape = shape or shape_for(len(assembly.recipe.sources))
        self._sources = DeviceSources(assembly, self._device, placement, eight_bit=eight_bit)
        jobs = sorted((job for job in assembly.jobs if job.name in tower and 0 not in job.shape), key=_turn)
        parts = list(_parts(jobs, part_elements or (STREAMED_PART if placement.streams else RESIDENT_PART)))
        # After a part is merged, all layers before the first one of the next part are complete.
        self._whole = [_turn(after[0]) for _, after in pairwise(parts)] + [LAST]
        self._jobs, self._tower = parts, tower
        self._families: dict[bool, Parts] = {}  # by whether the method has a base
        with current_gpu(self._device):
            wanted = [[one for job in part for one in self._sources.wanted(job)] for part in parts]
            self._feed = Feed(wanted, self._device, _room(self._device))
            self._family(self._sources.needs_base)
        self._kept = [
            [kept for job in part if (kept := self._kept_rows(job, tower[job.name].data)) is not None] for part in parts
        ]
        self._pending = pending if self._feed.streams else None
        self._shares = Shares()

    @property
    def errors(self) -> dict[str, float]:
        """Relative 8-bit quantisation error of each source's task vector, |lost| / |delta|; empty if not quantised."""
        return self._sources.errors

    @property
    def nbytes(self) -> int:
        """Bytes that a merge has to move through device memory: inputs read once, outputs written once."""
        with current_gpu(self._device):
            parts = self._family(self._sources.needs_base)
        every = [one for part in parts for launch in part for one in launch.operands]
        return sum(part.numel() * part.element_size() for one in every for part in one.tensors())

    @property
    def while_read(self) -> bool:
        """Whether merging overlaps with reading prompts for candidates that need no new table.

        The merge then has no time of its own; it is included in `prefill`.
        """
        return self._pending is not None

    @torch.inference_mode()
    def merge(self, recipe: Recipe) -> None:
        """Overwrite the live tower with a candidate of the same models, with other parameters and maybe another method.

        A method that the fused pass cannot apply to the kept sources (no kernel, or it needs a base that is not kept)
        is merged on the CPU. Raises UnfitValues if weights that the method divides by all but cancel, NotFinite if
        the merged weights are not finite; if merging overlaps with reading, the latter is raised from `Pending` in
        the reading engine instead.
        """
        refuse_unfit_weights(recipe)
        candidate = with_recipe(self._assembly, recipe)
        if self._pending is not None and self._pending.drop() and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the pinned memory written next may still be being copied from
        if not self._fuses(recipe.method):
            ResidentMerger(self._assembly, self._tower, threads=torch.get_num_threads()).merge(recipe)
            return
        with current_gpu(self._device):
            parts, levels = self._family(METHODS[recipe.method].needs_base), levels_of(candidate)
            jobs = (job for part in self._jobs for job in part)
            if self._pending is None or self._shares.lack_tables(candidate, levels, jobs):
                for _ in self._steps(parts, candidate, levels):
                    pass
                return
            for part in parts:
                for launch in part:
                    self._send(candidate, levels, launch)
            self._pending.begin(self._steps(parts, candidate))

    def _steps(self, parts: Parts, candidate: Assembly, levels: Levels | None = None) -> Iterator[int]:
        """Merge part by part on the current stream; yields the number of complete layers after each part.

        Waits for the whole merge at the end. levels: given if the numbers have not been sent yet; missing tables are
        then built from each part as it arrives.
        """
        with current_gpu(self._device):
            self._feed.begin()
        for index, launches in enumerate(parts):
            with current_gpu(self._device):
                self._feed.ready(index)
                for launch in launches:
                    if levels is not None:
                        self._send(candidate, levels, launch)
                    merge_batch(launch.batch, candidate.recipe.method, candidate.options, self._shape)
                self._feed.done(index)
                for live, rows, values in self._kept[index]:
                    live[rows] = values
            yield self._whole[index]
        launched = [launch for part in parts for launch in part]
        faults = torch.cat([launch.batch.faults for launch in launched]).cpu()  # waits for the whole merge
        if bool(faults.any()):
            names = [job.name for launch in launched for job in launch.jobs]
            raise NotFinite(f"{names[int(faults.argmax())]}: the merged weights are not finite")

    def _fuses(self, method: str) -> bool:
        """Whether the fused pass can apply this method to the sources as they are kept."""
        if not is_fused(method):
            return False
        if METHODS[method].needs_base:
            return self._sources.needs_base
        return False in self._families or self._sources.serve_without_base()

    def _kept_rows(self, job: Job, live: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The owner's own vocabulary rows, which are restored in the live tensor after each merge."""
        kept = self._assembly.kept_rows(job)
        if kept is None:
            return None
        rows, values = kept
        return live, rows.to(self._device), values.to(live.dtype).to(self._device)

    def _send(self, candidate: Assembly, levels: Levels, launch: _Launch) -> None:
        """Copy a candidate's numbers for a launch to device memory, where its kernel reads them."""
        method, options, batch = candidate.recipe.method, candidate.options, launch.batch
        pairs = zip(launch.jobs, launch.operands, strict=True)
        shares = [self._shares.of(candidate, levels, job, operands) for job, operands in pairs]
        launch.numbers.copy_(torch.from_numpy(rows_of(method, options, shares)))
        launch.divisors.copy_(torch.from_numpy(divisors_of(method, options, shares)))
        batch.numbers.copy_(launch.numbers, non_blocking=True)
        batch.divisors.copy_(launch.divisors, non_blocking=True)
        batch.faults.zero_()

    def _family(self, base: bool) -> Parts:
        """The launches for methods with a base, or for those without."""
        if base not in self._families:
            self._families[base] = [self._launches(index, part, base) for index, part in enumerate(self._jobs)]
        return self._families[base]

    def _launches(self, index: int, jobs: Sequence[Job], base: bool) -> tuple[_Launch, ...]:
        """A part's jobs grouped by form, ready to be launched."""
        tensors = self._feed.tensors(index)
        operands = {job: self._sources.operands(job, tensors, self._tower[job.name].data, base=base) for job in jobs}
        forms = {job: form_of(operands[job], self._assembly.dtype) for job in jobs}
        return tuple(
            self._prepare([job for job in jobs if forms[job] == form], operands)
            for form in dict.fromkeys(forms.values())
        )

    def _prepare(self, jobs: Sequence[Job], operands: Mapping[Job, Operands]) -> _Launch:
        own = tuple(operands[job] for job in jobs)
        batch = make_batch(own, self._assembly.dtype, self._device, self._shape.groups, self._shape.repeats)
        pinned = self._device.type == "cuda"
        return _Launch(
            batch,
            tuple(jobs),
            own,
            torch.empty_like(batch.numbers, device="cpu", pin_memory=pinned),
            torch.empty_like(batch.divisors, device="cpu", pin_memory=pinned),
        )


def _turn(job: Job) -> int:
    """Sort key that puts tensors in the order in which the model uses them: embeddings, layers, the rest."""
    layer = layer_of(job.name)
    if layer is not None:
        return layer
    return -1 if job.name.startswith("model.embed_tokens.") else LAST


def _room(device: torch.device) -> float:
    """Bytes available for blocks in flight."""
    if device.type != "cuda":
        return math.inf
    return STREAMED_SHARE * torch.cuda.get_device_properties(device).total_memory


def _refuse_unfused(method: str) -> None:
    if not is_fused(method):
        raise RecipeError(f"method: {method} has no GPU kernel; on a GPU choose from {fused_methods()}")


def _parts(jobs: Sequence[Job], elements: int) -> Iterator[list[Job]]:
    """Split jobs into runs of at least `elements` elements each, except the last."""
    part: list[Job] = []
    count = 0
    for job in jobs:
        part.append(job)
        count += math.prod(job.shape)
        if count >= elements:
            yield part
            part, count = [], 0
    if part:
        yield part
