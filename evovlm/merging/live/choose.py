"""Chooses the merger for a resident model (GPU or CPU) and where its sources are kept.

Knows assemblies, live parameters and free memory; no tasks, scores or engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch

from evovlm.merging.assembly import Assembly
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.lazy import Pending
from evovlm.merging.live.placement import AUTO, Memory, Placement, choose_places, refuse_unknown_place
from evovlm.methods import METHODS, vector_dtype
from evovlm.methods.kernels import fused_sums, sums_fused, triton_is_there
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError

# Bytes per element of an 8-bit task vector, including its share of a scale.
EIGHT_BIT = 1 + 4 / 64


class Merger(Protocol):
    """Merges candidates into live parameters."""

    @property
    def nbytes(self) -> int:
        """Bytes that a merge has to move: inputs read once, outputs written once."""
        ...

    def bytes_of(self, recipe: Recipe) -> int:
        """The same for a candidate by another method."""
        ...

    @property
    def kept_bytes(self) -> int:
        """Bytes that the merger keeps on the model's GPU for further merges; 0 on a CPU."""
        ...

    @property
    def while_read(self) -> bool:
        """Whether merging may overlap with reading the prompts, so that its time is included in `prefill`."""
        ...

    def merge(self, recipe: Recipe) -> None:
        """Overwrite the live tower with a candidate.

        Raises FloatingPointError if the merged weights are not finite.
        """
        ...

    def become_model(self, label: str) -> None:
        """Overwrite the live tower with an unmerged model that the output can answer as, by label."""
        ...


@dataclass(frozen=True)
class Keeping:
    """How to keep sources for merges on a GPU. place: auto, gpu, host or disk. eight_bit: 8-bit task vectors."""

    place: str = AUTO
    eight_bit: bool = False


AUTOMATIC = Keeping()


def merger_for(
    assembly: Assembly,
    tower: Mapping[str, torch.nn.Parameter],
    keeping: Keeping,
    tell: Callable[[str], None] | None = None,
    pending: Pending | None = None,
) -> Merger:
    """Return the GPU merger if the tower is on a GPU and Triton is installed, otherwise the CPU merger.

    tell: called with one sentence each: where sources are kept, what another method needs besides, what is merged more
    slowly, or why the CPU merges. pending: shared with an engine that requests each layer before using it; streamed
    sources are then merged lazily, while prompts are read. Raises RecipeError if the sources cannot be kept as
    requested.
    """
    device = next(iter(tower.values())).device
    refuse_cpu(keeping, device.type)
    if device.type != "cuda":
        return ResidentMerger(assembly, tower)
    if not triton_is_there():
        reason = "Triton is not installed; install it with: pip install 'evovlm[gpu]'"
        if keeping.eight_bit or keeping.place not in (AUTO, "disk"):
            raise RecipeError(f"--sources-in, --eight-bit: need the fused GPU merge, but {reason}")
        if tell is not None:
            tell(f"candidates are merged on the CPU: {reason}")
        return ResidentMerger(assembly, tower)
    from evovlm.merging.live.gpu import DeviceMerger

    _refuse_eight_bit(assembly, keeping)
    placement = choose_places(_nbytes(assembly, keeping), _memory(device), keeping.place)
    merger = DeviceMerger(
        assembly,
        tower,
        placement,
        eight_bit=keeping.eight_bit,
        pending=pending,
        later=lambda nbytes: choose_places(nbytes, _memory(device), keeping.place),
        tell=tell,
    )
    if tell is not None:
        tell(_described(placement, merger.errors))
    return merger


def refuse_cpu(keeping: Keeping, device: str) -> None:
    """Raise RecipeError for an unknown place, and on a CPU for any place but `disk` (a CPU always maps sources)."""
    refuse_unknown_place(keeping.place)
    if (keeping.eight_bit or keeping.place not in (AUTO, "disk")) and not device.startswith("cuda"):
        raise RecipeError(
            "--sources-in, --eight-bit: on a CPU sources are always memory-mapped from disk; add `--device cuda`"
        )


def _described(placement: Placement, errors: Mapping[str, float]) -> str:
    lost = ", ".join(f"{error:.2%} of {source}" for source, error in errors.items())
    return f"sources: {placement.in_words()}" + (
        f"; 8-bit quantisation error: {lost} (relative to the norm of the task vector)" if lost else ""
    )


def _refuse_eight_bit(assembly: Assembly, keeping: Keeping) -> None:
    method = assembly.recipe.method
    if not keeping.eight_bit:
        return
    if not METHODS[method].needs_base:
        raise RecipeError(f"--eight-bit: {method} has no task vectors; remove --eight-bit")
    if not sums_fused(method, assembly.options):
        raise RecipeError(
            f"--eight-bit: {method} needs its sources as they are; remove --eight-bit, or choose one of {fused_sums()}"
        )
    if keeping.place == "disk":
        raise RecipeError(
            "--eight-bit: 8-bit task vectors are computed and cannot be memory-mapped; choose --sources-in gpu or host"
        )


def _nbytes(assembly: Assembly, keeping: Keeping) -> dict[str, int]:
    """Bytes of each model as it will be kept, the base first."""
    found: dict[str, int] = {}
    if assembly.reads_base:
        sizes = (math.prod(job.shape) * assembly.base_dtype(job).itemsize for job in assembly.jobs)
        found[assembly.recipe.base_label] = sum(sizes)
    prepared = METHODS[assembly.recipe.method].prepare is not None
    for job in assembly.jobs:
        for source, name in job.parts:
            each = EIGHT_BIT if keeping.eight_bit else assembly.source_dtype(source, name).itemsize
            if prepared:
                each = vector_dtype(assembly.base_dtype(job)).itemsize
            found[source] = found.get(source, 0) + round(math.prod(job.shape) * each)
    return found


def _memory(device: torch.device) -> Memory:
    free, total = torch.cuda.mem_get_info(device)
    host = psutil.virtual_memory()
    return Memory(free, total, host.available, host.total)
