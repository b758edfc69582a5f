"""The GPU merger: merges candidates into the live parameters of a resident model, by any method, from the same tensors.

Most methods take one fused pass over all tensors; the others are merged one tensor at a time (`_gpu_single`). Knows
assemblies, live parameters and where their sources are kept; no tasks, scores or engines. Parameters never move,
so a CUDA graph captured from the model works for every candidate. Tables of thresholds and sums are built on first use.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from evovlm.merging._unfit_weights import refuse_unfit_weights
from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.live._gpu_operands import BASE, Kinds, operands_of, source_of
from evovlm.merging.live._gpu_single import OneByOne
from evovlm.merging.live._gpu_store import Later, Store
from evovlm.merging.live._gpu_terms import Levels, Shares, levels_of
from evovlm.merging.live.lazy import Pending
from evovlm.merging.live.placement import Placement, on_the_gpu
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS, MergeOptions, check_inputs
from evovlm.methods.kernels import sums_fused, way_of
from evovlm.methods.kernels.launch import Shape, merge_batch, shape_for
from evovlm.methods.kernels.layout import Batch, Operands, form_of, make_batch
from evovlm.methods.kernels.numbers import divisors_of, rows_of
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.device import current_gpu
from evovlm.system.errors import NotFinite

# Elements per part: few launches if everything is on the GPU, small blocks in flight if sources are streamed.
RESIDENT_PART = 512 << 20
STREAMED_PART = 64 << 20
# Share of the GPU's memory for blocks in flight; it comes out of the share kept free for caches and activations.
STREAMED_SHARE = 0.15
# Sort key of tensors that come after the last layer.
LAST = sys.maxsize

Parts = Sequence[tuple["_Launch", ...]]
Faults = list[tuple[list[str], Tensor]]  # tensors' names, and a flag for each that is set if it is not finite
Turn = Callable[[Job], int]


@dataclass(frozen=True)
class _Launch:
    """A batch, its jobs, and the pinned memory from which its numbers and divisors are copied to the GPU."""

    batch: Batch
    jobs: tuple[Job, ...]
    operands: tuple[Operands, ...]
    numbers: Tensor
    divisors: Tensor


@dataclass(frozen=True)
class _KeptRows:
    """Vocabulary rows of a live tensor that no merge changes, and their values."""

    live: Tensor
    rows: Tensor
    values: Tensor


class Once(NamedTuple):
    """A part that `merge_once` has merged.

    faults: what is not finite. inexact: names of tensors whose masks may differ from the CPU's, for more magnitudes
    are in them than a table keeps.
    """

    jobs: Sequence[Job]
    faults: Faults
    inexact: frozenset[str]


class DeviceMerger:
    """Merges candidates of one assembly's models into live parameters on their device, by any method.

    tower: canonical name -> parameter, all on one device, each contiguous. placement: where the base (the recipe's
    `base_label`) and the sources are kept. later: the same for what only another method than the recipe's needs, given
    bytes by label. eight_bit: keep task vectors in 8 bits; `errors` then gives each source's quantisation error.
    pending: shared with an engine that requests each layer before using it; streamed sources are then merged lazily.
    turn: the order in which tensors are merged; by default that in which the model uses them, as `pending` needs it.
    tell: called once with each sentence on what is loaded later, or merged in another way than by the fused pass.
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
        later: Later = on_the_gpu,
        turn: Turn | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._assembly = assembly
        self._device = next(iter(tower.values())).device
        self._shape = shape or shape_for(len(assembly.recipe.sources))
        self._eight_bit = eight_bit and METHODS[assembly.recipe.method].needs_base
        jobs = [job for job in assembly.jobs if job.name in tower]
        parts = parts_of(jobs, part_elements or (STREAMED_PART if placement.streams else RESIDENT_PART), turn)
        # After a part is merged, all layers before the first one of the next part are complete.
        self._whole = [_turn(after[0]) for _, after in pairwise(parts)] + [LAST]
        self._jobs, self._tower = parts, tower
        self._told: set[str] = set()
        self._tell = tell
        self._launched: dict[Kinds, Parts] = {}
        self._kept: dict[bool, list[list[_KeptRows]]] = {}  # by whether the method has a base
        self._shares = Shares()
        own = self._kinds(assembly.recipe.method, assembly.options)
        with current_gpu(self._device):
            self._store = Store(
                assembly, self._device, parts, own, placement, later, _room(self._device), self._tell_once
            )
            self._family(own)
        self._pending = pending if self._store.streams(own) else None
        self._single = OneByOne(self._device, self._shape, self._shares, self._tell_once)

    @property
    def errors(self) -> dict[str, float]:
        """Relative 8-bit quantisation error of each source's task vector, |lost| / |delta|; empty if not quantised."""
        return self._store.errors

    @property
    def nbytes(self) -> int:
        """Bytes that a merge by the recipe's own method has to move: see `bytes_of`."""
        return self.bytes_of(self._assembly.recipe)

    def bytes_of(self, recipe: Recipe) -> int:
        """Bytes that a merge has to move through device memory: inputs read once, outputs written once."""
        candidate = with_recipe(self._assembly, recipe)
        kinds = self._kinds(recipe.method, candidate.options)
        with current_gpu(self._device):
            self._need(kinds, candidate, recipe.method)
            parts = self._family(kinds)
        every = [one for part in parts for launch in part for one in launch.operands]
        return sum(part.numel() * part.element_size() for one in every for part in one.tensors())

    @property
    def kept_bytes(self) -> int:
        """Bytes of models that are kept on the GPU for further merges."""
        return self._store.device_bytes

    @property
    def while_read(self) -> bool:
        """Whether merging overlaps with reading prompts for candidates that need no new table.

        The merge then has no time of its own; it is included in `prefill`.
        """
        return self._pending is not None

    @torch.inference_mode()
    def merge(self, recipe: Recipe) -> None:
        """Overwrite the live tower with a candidate of the same models, with other parameters and maybe another method.

        What only this method needs (a base, or sources that are kept in 8 bits so far) is loaded once. Raises
        UnfitValues if weights that the method divides by all but cancel, RecipeError if the method does not take these
        models, NotFinite if the merged weights are not finite; if merging overlaps with reading, the latter is raised
        from `Pending` in the reading engine instead.
        """
        refuse_unfit_weights(recipe)
        for count in {len(job.parts) for part in self._jobs for job in part}:
            check_inputs(recipe.method, count, has_base=self._assembly.recipe.base is not None)
        candidate = with_recipe(self._assembly, recipe)
        way, kinds = way_of(recipe.method, candidate.options), self._kinds(recipe.method, candidate.options)
        self._drop_pending()
        with current_gpu(self._device):
            self._need(kinds, candidate, recipe.method)
            levels = levels_of(candidate)
            if way != "fused":
                self._run(
                    self._steps(candidate, kinds, lambda index: self._merge_singly(candidate, levels, kinds, index))
                )
                return
            jobs = (job for part in self._jobs for job in part)
            if self._pending is None or self._shares.lack_tables(candidate, levels, jobs):
                self._run(self._steps(candidate, kinds, lambda index: self._launch(candidate, kinds, index, levels)))
                return
            for part in self._family(kinds):
                for launch in part:
                    self._send(candidate, levels, launch)
            self._pending.begin(self._steps(candidate, kinds, lambda index: self._launch(candidate, kinds, index)))

    @torch.inference_mode()
    def merge_once(self) -> Iterator[Once]:
        """Merge the recipe itself, part by part, yielding each part once its merge is queued on the current stream.

        Before the next part is asked for, the current stream must have been given whatever reads this one: so the
        parts' parameters may share memory. Tables are forgotten after each part. Raises nothing for values that are
        not finite: see `Once`.
        """
        recipe, options = self._assembly.recipe, self._assembly.options
        kinds, levels, kept = (
            self._kinds(recipe.method, options),
            levels_of(self._assembly),
            self._kept_rows(self._assembly),
        )
        fused = way_of(recipe.method, options) == "fused"

        def merge(index: int) -> Faults:
            if fused:
                return self._launch(self._assembly, kinds, index, levels)
            return self._merge_singly(self._assembly, levels, kinds, index)

        with current_gpu(self._device):
            self._store.begin(kinds)
        for index, jobs in enumerate(self._jobs):
            found = self._merge_part(kinds, index, merge, kept[index])
            yield Once(jobs, found, self._shares.forget())

    @torch.inference_mode()
    def become_model(self, label: str) -> None:
        """Overwrite the live tower with an unmerged model, by label: each tensor as in its file, in the live dtype.

        It must be one that the output can answer as (`Assembly.why_not_as_is`).
        """
        kinds: Kinds = ("sources",) if label in self._assembly.sources else ("base",)
        self._drop_pending()
        with current_gpu(self._device):
            self._need(kinds, self._assembly, f"{label} as it is")
            self._store.begin(kinds)
            for index, jobs in enumerate(self._jobs):
                self._store.ready(kinds, index)
                tensors = self._store.tensors(kinds, index)
                for job in jobs:
                    own = tensors[job.name, BASE] if kinds == ("base",) else source_of(job, label, tensors)
                    self._tower[job.name].data.copy_(own.view(job.shape))
                self._store.done(kinds, index)

    def _kinds(self, method: str, options: MergeOptions) -> Kinds:
        """What a method's merge reads."""
        if not METHODS[method].reads_base(given=self._assembly.base is not None):
            return ("sources",)
        if METHODS[method].prepare is not None:
            return "base", "vectors"
        return ("base", "packed") if self._eight_bit and sums_fused(method, options) else ("base", "sources")

    def _need(self, kinds: Kinds, candidate: Assembly, name: str) -> None:
        """Load what a candidate's merge reads, if it is not there; `name`: of what it is loaded for."""
        if self._store.need(kinds, candidate, name):
            self._launched.pop(kinds, None)

    def _steps(self, candidate: Assembly, kinds: Kinds, merge_part: Callable[[int], Faults]) -> Iterator[int]:
        """Merge part by part on the current stream; yields the number of complete layers after each part.

        Waits for the whole merge at the end.
        """
        found: Faults = []
        kept = self._kept_rows(candidate)
        with current_gpu(self._device):
            self._store.begin(kinds)
        for index in range(len(self._jobs)):
            found += self._merge_part(kinds, index, merge_part, kept[index])
            yield self._whole[index]
        faults = torch.cat([flags for _, flags in found]).cpu()  # waits for the whole merge
        if bool(faults.any()):
            names = [name for several, _ in found for name in several]
            raise NotFinite(f"{names[int(faults.argmax())]}: the merged weights are not finite")

    def _merge_part(
        self, kinds: Kinds, index: int, merge: Callable[[int], Faults], kept: Sequence[_KeptRows]
    ) -> Faults:
        with current_gpu(self._device):
            self._store.ready(kinds, index)
            found = merge(index)
            self._store.done(kinds, index)
            for one in kept:
                one.live[one.rows] = one.values
        return found

    def _launch(self, candidate: Assembly, kinds: Kinds, index: int, levels: Levels | None = None) -> Faults:
        """Merge a part by the fused pass; returns its tensors' names and flags.

        levels: given if the numbers have not been sent yet; missing tables are then built from the part.
        """
        launches = self._family(kinds)[index]
        for launch in launches:
            if levels is not None:
                self._send(candidate, levels, launch)
            merge_batch(launch.batch, candidate.recipe.method, candidate.options, self._shape)
        return [([job.name for job in launch.jobs], launch.batch.faults) for launch in launches]

    def _merge_singly(self, candidate: Assembly, levels: Levels, kinds: Kinds, index: int) -> Faults:
        """Merge a part one tensor after another."""
        tensors, found = self._store.tensors(kinds, index), []
        for job in self._jobs[index]:
            operands = operands_of(job, kinds, tensors, self._tower[job.name].data)
            found.append(([job.name], self._single.merge(candidate, levels, job, operands)))
        return found

    @staticmethod
    def _run(steps: Iterator[int]) -> None:
        for _ in steps:
            pass

    def _drop_pending(self) -> None:
        if self._pending is not None and self._pending.drop() and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the pinned memory written next may still be being copied from

    def _tell_once(self, text: str) -> None:
        if self._tell is not None and text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _kept_rows(self, candidate: Assembly) -> list[list[_KeptRows]]:
        """By part, the owner's own vocabulary rows, which are restored in the live tensors after each merge."""
        base = candidate.reads_base
        if base not in self._kept:
            self._kept[base] = [[one for job in part for one in self._kept_of(candidate, job)] for part in self._jobs]
        return self._kept[base]

    def _kept_of(self, candidate: Assembly, job: Job) -> Iterator[_KeptRows]:
        kept = candidate.kept_rows(job)
        if kept is not None:
            rows, values = kept
            live = self._tower[job.name].data
            yield _KeptRows(live, rows.to(self._device), values.to(live.dtype).to(self._device))

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

    def _family(self, kinds: Kinds) -> Parts:
        """The launches for methods that read these kinds."""
        if kinds not in self._launched:
            self._launched[kinds] = [self._launches(index, part, kinds) for index, part in enumerate(self._jobs)]
        return self._launched[kinds]

    def _launches(self, index: int, jobs: Sequence[Job], kinds: Kinds) -> tuple[_Launch, ...]:
        """A part's jobs grouped by form, ready to be launched."""
        tensors = self._store.tensors(kinds, index)
        operands = {job: operands_of(job, kinds, tensors, self._tower[job.name].data) for job in jobs}
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


def parts_of(jobs: Iterable[Job], elements: int, turn: Turn | None = None) -> list[list[Job]]:
    """Split jobs, in their turn, into runs of at least `elements` elements each, except the last; no empty tensors."""
    parts: list[list[Job]] = []
    count = elements
    for job in sorted((job for job in jobs if 0 not in job.shape), key=turn or _turn):
        if count >= elements:
            parts.append([])
            count = 0
        parts[-1].append(job)
        count += math.prod(job.shape)
    return parts
