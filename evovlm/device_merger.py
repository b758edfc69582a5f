"""The resident model on a GPU: candidates are merged into its live parameters by the fused pass.

Knows assemblies, live parameters and where their sources lie; no tasks, scores or engines. Parameters never move, so
what was captured of the model (a CUDA graph) serves every candidate. Tables of thresholds and sums come on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.assembly import Assembly, with_recipe
from evovlm.device_sources import DeviceSources, task_vector
from evovlm.draws import draw_key
from evovlm.errors import RecipeError
from evovlm.feed import Feed
from evovlm.jobs import Job
from evovlm.kernels import FUSED
from evovlm.kernels.launch import Shape, merge_batch, shape_for
from evovlm.kernels.layout import Batch, Operands, form_of, make_batch
from evovlm.kernels.numbers import Share, divisors_of, rows_of
from evovlm.kernels.tables import DrawSums, Magnitudes, largest_of_delta, magnitudes_of
from evovlm.kernels.tabulate import draw_sums
from evovlm.methods import METHODS
from evovlm.placement import Placement
from evovlm.recipe import Recipe, value_at
from evovlm.resident import ResidentMerger

# Elements a part: few launches where all lies on the GPU, small blocks in flight where it is streamed.
RESIDENT_PART = 512 << 20
STREAMED_PART = 128 << 20

Levels = Mapping[tuple[str, str], tuple[float, float]]  # weight and density, by source and group


@dataclass(frozen=True)
class _Launch:
    """A batch, its jobs, and the pinned memory that its numbers and divisors are sent from."""

    batch: Batch
    jobs: tuple[Job, ...]
    operands: tuple[Operands, ...]
    numbers: Tensor
    divisors: Tensor


class DeviceMerger:
    """Merges candidates of one recipe into live parameters on their device.

    tower: canonical name -> parameter, all on one device, each contiguous. placement: where base (label `base`) and
    sources lie. eight_bit: keep task vectors in 8 bits; `errors` then tells what each source loses by it.
    Raises RecipeError for a method that the fused pass cannot do.
    """

    def __init__(
        self,
        assembly: Assembly,
        tower: Mapping[str, torch.nn.Parameter],
        placement: Placement,
        *,
        eight_bit: bool = False,
        shape: Shape | None = None,
        part_elements: int | None = None,
    ) -> None:
        _refuse_unfused(assembly.recipe.method)
        self._assembly = assembly
        self._device = next(iter(tower.values())).device
        self._shape = shape or shape_for(len(assembly.recipe.sources))
        self._sources = DeviceSources(assembly, self._device, placement, eight_bit=eight_bit)
        jobs = [job for job in assembly.jobs if job.name in tower and 0 not in job.shape]
        parts = list(_parts(jobs, part_elements or (STREAMED_PART if placement.streams else RESIDENT_PART)))
        self._feed = Feed([[one for job in part for one in self._sources.wanted(job)] for part in parts], self._device)
        self._jobs, self._tower = parts, tower
        self._families: dict[bool, list[tuple[_Launch, ...]]] = {}  # by whether there is a base
        self._family(self._sources.needs_base)
        self._kept = [kept for job in jobs if (kept := self._kept_rows(job, tower[job.name].data)) is not None]
        self._tables: dict[tuple[str, str, str, int], DrawSums | Magnitudes | None] = {}

    @property
    def errors(self) -> dict[str, float]:
        """What 8 bits lose of each source's task vector: |lost| / |delta|; empty where they are kept whole."""
        return self._sources.errors

    @property
    def nbytes(self) -> int:
        """Bytes that a merge has to move through device memory: inputs read once, outputs written once."""
        parts = self._family(self._sources.needs_base)
        every = [one for part in parts for launch in part for one in launch.operands]
        return sum(part.numel() * part.element_size() for one in every for part in one.tensors())

    @torch.inference_mode()
    def merge(self, recipe: Recipe) -> None:
        """Overwrite the live tower with a candidate. Same models; other parameters, perhaps another method.

        What the fused pass cannot make of what is kept here (another method's base, or no kernel) is merged on the CPU.
        Raises FloatingPointError where the merged weights are not finite.
        """
        candidate = with_recipe(self._assembly, recipe)
        if not self._fuses(recipe.method):
            ResidentMerger(self._assembly, self._tower, threads=torch.get_num_threads()).merge(recipe)
            return
        parts, levels = self._family(METHODS[recipe.method].needs_base), _levels(candidate)
        self._feed.begin()
        for index, launches in enumerate(parts):
            self._feed.ready(index)
            for launch in launches:
                self._launch(candidate, levels, launch)
            self._feed.done(index)
        for live, rows, values in self._kept:
            live[rows] = values
        launched = [launch for part in parts for launch in part]
        faults = torch.cat([launch.batch.faults for launch in launched]).cpu()  # waits for the whole merge
        if bool(faults.any()):
            names = [job.name for launch in launched for job in launch.jobs]
            raise FloatingPointError(f"{names[int(faults.argmax())]}: the merged weights are not finite")

    def _fuses(self, method: str) -> bool:
        """Whether the fused pass makes this method's candidates of what is kept."""
        if method not in FUSED:
            return False
        if METHODS[method].needs_base:
            return self._sources.needs_base
        return False in self._families or self._sources.serve_without_base()

    def _kept_rows(self, job: Job, live: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """The owner's own vocabulary rows, which go back into the live tensor after each merge."""
        kept = self._assembly.kept_rows(job)
        if kept is None:
            return None
        rows, values = kept
        return live, rows.to(self._device), values.to(live.dtype).to(self._device)

    def _launch(self, candidate: Assembly, levels: Levels, launch: _Launch) -> None:
        method, options, batch = candidate.recipe.method, candidate.options, launch.batch
        shares = [
            [self._share(candidate, levels, job, operands, index) for index in range(len(job.parts))]
            for job, operands in zip(launch.jobs, launch.operands, strict=True)
        ]
        launch.numbers.copy_(torch.from_numpy(rows_of(method, options, shares)))
        launch.divisors.copy_(torch.from_numpy(divisors_of(method, options, shares)))
        batch.numbers.copy_(launch.numbers, non_blocking=True)
        batch.divisors.copy_(launch.divisors, non_blocking=True)
        batch.faults.zero_()
        merge_batch(batch, method, options, self._shape)

    def _share(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands, index: int) -> Share:
        source, _ = job.parts[index]
        weight, density = levels[source, job.group]
        draw = draw_key(candidate.recipe.seed, source, job.name)
        drop = METHODS[candidate.recipe.method].drop
        if drop is None or not 0 < density < 1:
            return Share(weight, density, draw)
        if drop == "random" and candidate.options.rescale != "l1":
            return Share(weight, density, draw)
        key = (drop, job.name, source, draw if drop == "random" else 0)
        if key not in self._tables:
            self._tables[key] = _table(drop, operands, index, draw)
        found = self._tables[key]
        if isinstance(found, DrawSums):
            return Share(weight, density, draw, draw_sums=found)
        return Share(weight, density, draw, magnitudes=found)

    def _family(self, base: bool) -> list[tuple[_Launch, ...]]:
        """The launches of methods with a base, or of those without."""
        if base not in self._families:
            self._families[base] = [self._launches(index, part, base) for index, part in enumerate(self._jobs)]
        return self._families[base]

    def _launches(self, index: int, jobs: Sequence[Job], base: bool) -> tuple[_Launch, ...]:
        """A part's jobs by form, ready to be launched."""
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


def _table(drop: str, operands: Operands, index: int, key: int) -> DrawSums | Magnitudes | None:
    """None where the task vector is zero or not finite."""
    sizes = task_vector(operands, index).abs_()
    largest = largest_of_delta(sizes)
    if not math.isfinite(largest) or largest == 0.0:
        return None
    return draw_sums(sizes, key, largest) if drop == "random" else magnitudes_of(sizes)


def _levels(candidate: Assembly) -> Levels:
    """A candidate's weights and densities, looked up once for all tensors of a group."""
    found = {}
    for source in candidate.recipe.source_names:
        told = candidate.recipe.of(source)
        for group in {job.group for job in candidate.jobs}:
            found[source, group] = (value_at(told.weight, group, 1.0), value_at(told.density, group, 1.0))
    return found


def _refuse_unfused(method: str) -> None:
    if method not in FUSED:
        raise RecipeError(f"method: {method} has no kernel; on a GPU choose from {sorted(FUSED)}")


def _parts(jobs: Sequence[Job], elements: int) -> Iterator[list[Job]]:
    """Runs of jobs of at least so many elements, but for the last."""
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
