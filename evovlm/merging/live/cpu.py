"""The CPU merger: merges candidates in memory, into the parameters of one live model.

Knows assemblies and live parameters; no tasks, scores or files. Sources stay memory-mapped; whatever depends on neither
weights nor densities (task vectors, draws, threshold tables) is cached between candidates if memory allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from evovlm.merging._unfit_weights import refuse_unfit_weights
from evovlm.merging.assembly import Assembly, with_recipe
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS, Tables, blaming_plugins, merge_tensor
from evovlm.methods.draws import Draws
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import NotFinite

# Bytes cached per source and element: float32 task vector, int32 draws, and tables of the same order.
KEPT_BYTES = 16


@dataclass
class _Kept:
    """One source's cached data for one tensor, ready for the next candidate."""

    tensor: Tensor
    draws: Draws
    tables: Tables | None


class ResidentMerger:
    """Merges candidates of one recipe into live parameters.

    `tower`: canonical name -> parameter, for every job of the assembly (a tied head has no parameter of its own).
    `threads`: tensors merged at a time. The values written are those that a checkpoint in the recipe's dtype would
    hold.
    """

    def __init__(self, assembly: Assembly, tower: Mapping[str, torch.nn.Parameter], *, threads: int = 1) -> None:
        self._assembly = assembly
        self._tower = tower
        self._threads = threads
        elements = sum(parameter.numel() for parameter in tower.values()) * len(assembly.sources)
        self._keep = elements * KEPT_BYTES < psutil.virtual_memory().available // 2
        # The base fills in vocabulary rows that a source lacks, so a source's tensor depends on whether there is one.
        self._kept: dict[tuple[str, str, bool], _Kept] = {}
        self._bases: dict[str, Tensor | None] = {}

    while_read = False
    kept_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that a merge by the recipe's own method has to move: see `bytes_of`."""
        return self.bytes_of(self._assembly.recipe)

    def bytes_of(self, recipe: Recipe) -> int:
        """Bytes that a merge has to move: inputs read once in their stored dtype, outputs written once."""
        width = self._assembly.dtype.itemsize
        models = len(recipe.sources) + METHODS[recipe.method].reads_base(given=recipe.base is not None)
        return sum(one.numel() * (models * width + one.element_size()) for one in self._tower.values())

    def merge(self, recipe: Recipe) -> None:
        """Overwrite the live tower with a candidate of the same models, method and seed, with other parameters.

        Raises UnfitValues if weights that the method divides by all but cancel, NotFinite if the merged weights are
        not finite.
        """
        refuse_unfit_weights(recipe)
        candidate = with_recipe(self._assembly, recipe)
        jobs = [job for job in candidate.jobs if job.name in self._tower]
        if self._threads == 1:
            for job in jobs:
                self._merge_one(candidate, job)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(lambda job: self._merge_one(candidate, job), jobs))

    @torch.inference_mode()
    def become_model(self, label: str) -> None:
        """Overwrite the live tower with an unmerged model, by label: each tensor as in its file, in the live dtype.

        It must be one that the output can answer as (`Assembly.why_not_as_is`).
        """
        for job in self._assembly.jobs:
            if job.name in self._tower:
                self._tower[job.name].data.copy_(self._assembly.unmerged_tensor(job, label))

    @torch.inference_mode()
    def _merge_one(self, candidate: Assembly, job: Job) -> None:
        base = self._base(candidate, job)
        operands = []
        for source, name in job.parts:
            kept = self._source(candidate, job, source, name, base)
            operands.append(candidate.operand(job, source, kept.tensor, kept.draws, kept.tables))
        operands = candidate.with_vectors(job, base, operands)
        options = candidate.options_of(job)
        with blaming_plugins(candidate.recipe.method, job.name):
            merged = merge_tensor(candidate.recipe.method, base, operands, options, dtype=candidate.dtype)
        merged = candidate.keep_rows(job, merged)
        if not bool(torch.isfinite(merged.sum(dtype=torch.float32))):
            raise NotFinite(f"{job.name}: the merged weights are not finite")
        self._tower[job.name].data.copy_(merged)

    def _base(self, candidate: Assembly, job: Job) -> Tensor | None:
        if not candidate.reads_base:
            return None
        if job.name in self._bases:
            return self._bases[job.name]
        base = candidate.base_tensor(job)
        if self._keep:
            self._bases[job.name] = base
        return base

    def _source(self, candidate: Assembly, job: Job, source: str, name: str, base: Tensor | None) -> _Kept:
        key = (job.name, source, base is not None)
        if key in self._kept:
            return self._kept[key]
        tensor = candidate.source_tensor(job, source, name, base)
        kept = _Kept(tensor, candidate.draws(job, source, keep=self._keep), Tables() if self._keep else None)
        if self._keep:
            self._kept[key] = kept
        return kept
