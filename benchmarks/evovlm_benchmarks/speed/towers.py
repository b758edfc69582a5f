"""Towers of random weights, drawn on the device that needs them: real shapes without a real model's files.

Knows shapes, assemblies, and files for sources that are read from disk; no kernels and no clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from evovlm.merging.assembly import Assembly
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS, Operand, PreparedSum, Tables, vector_dtype
from evovlm.models.checkpoint import Checkpoint
from evovlm.recipe.schema import Recipe
from evovlm_benchmarks.merge_speed import Scale

# Standard deviation of the weights, and of the change by fine-tuning.
SPREAD, STEP = 0.02, 0.002
BASE = "base"
PREPARED = 32  # the first number that prepared vectors are drawn by, beyond those of sources


@dataclass(frozen=True)
class RandomTower(Assembly):
    """An assembly whose tensors are drawn on a device each time they are read, always with the same values."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def base_tensor(self, job: Job) -> Tensor:
        """Normally distributed weights in the recipe's dtype."""
        return self._drawn(job, 0, SPREAD).to(self.dtype)

    def source_tensor(self, job: Job, source: str, name: str, base: Tensor | None) -> Tensor:
        """The base plus a small random change."""
        number = 1 + self.recipe.source_names.index(source)
        start = base if base is not None else self.base_tensor(job)
        return self._drawn(job, number, STEP).add_(start).to(self.dtype)

    def base_dtype(self, job: Job) -> torch.dtype:
        """The recipe's."""
        return self.dtype

    def source_dtype(self, source: str, name: str) -> torch.dtype:
        """The recipe's."""
        return self.dtype

    def vectors_of(self, job: Job, device: torch.device) -> list[Tensor]:
        """Random vectors instead of prepared ones, which a merge reads in the same way."""
        numbers = range(PREPARED, PREPARED + len(job.parts))
        return [self._drawn(job, number, STEP).to(vector_dtype(self.dtype)).to(device) for number in numbers]

    def with_vectors(self, job: Job, base: Tensor | None, operands: list[Operand]) -> list[Operand]:
        """The operands with these vectors, if the method prepares any."""
        if base is None or METHODS[self.recipe.method].prepare is None:
            return operands
        wanted = PreparedSum.wanted(self.recipe.method, self.options_of(job))
        tables = [operand.tables or Tables() for operand in operands]
        if any(one.prepared is None or one.prepared[0] != wanted for one in tables):
            for one, vector in zip(tables, self.vectors_of(job, base.device), strict=True):
                one.prepared = (wanted, vector)
        return [replace(operand, tables=one) for operand, one in zip(operands, tables, strict=True)]

    def span(self, job: Job, label: str, name: str) -> None:
        """None: values are drawn, or mapped as `source_tensor` gives them."""

    def kept_rows(self, job: Job) -> None:
        """None: all models have the same vocabulary."""

    def _drawn(self, job: Job, number: int, spread: float) -> Tensor:
        seed = self.jobs.index(job) * 64 + number
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(job.shape, generator=generator, device=self.device) * spread


@dataclass(frozen=True)
class StoredTower(RandomTower):
    """The same tensors, memory-mapped from files."""

    files: Mapping[str, Checkpoint] = field(default_factory=dict)  # by source name, plus `BASE`

    def base_tensor(self, job: Job) -> Tensor:
        """Mapped."""
        return self.files[BASE].tensor(job.name)

    def source_tensor(self, job: Job, source: str, name: str, base: Tensor | None) -> Tensor:
        """Mapped."""
        return self.files[source].tensor(name)


def recipe_of(sources: int, method: str, densities: Sequence[float] = (), dtype: str = "bfloat16") -> Recipe:
    """A recipe with `sources` sources, different weights, and the given densities (default 0.5)."""
    names = [f"source{number}" for number in range(1, sources + 1)]
    told = {**dict(enumerate(densities))}
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": BASE},
        "sources": [{"name": name, "model": name} for name in names],
        "method": method,
        "parameters": {
            name: {"weight": round(0.6 - 0.05 * index, 2), "density": told.get(index, 0.5)}
            for index, name in enumerate(names)
        },
        "dtype": dtype,
    }
    return Recipe.model_validate(content)


def random_tower(scale: Scale, recipe: Recipe, device: torch.device) -> RandomTower:
    """A tower of that size in the paper's layout."""
    jobs = tuple(
        Job(name, name, "whole", shape, tuple((source, name) for source in recipe.source_names))
        for name, shape in scale.tensors()
    )
    nobody = cast("Any", None)
    return RandomTower(recipe, Path(), None, {}, nobody, jobs, (), {}, (), device)


def stored(tower: RandomTower, folder: Path) -> StoredTower:
    """Write the tower's models below `folder`; returns a tower that memory-maps them."""
    files = {}
    for label in (BASE, *tower.recipe.source_names):
        (folder / label).mkdir()
        tensors = {
            job.name: (
                tower.base_tensor(job) if label == BASE else tower.source_tensor(job, label, job.name, None)
            ).cpu()
            for job in tower.jobs
        }
        save_file(tensors, folder / label / "model.safetensors", metadata={"format": "pt"})
        files[label] = Checkpoint.open(folder / label)
    told = {part.name: getattr(tower, part.name) for part in fields(tower)}
    return StoredTower(**told, files=files)


def live_parameters(tower: RandomTower, dtype: torch.dtype) -> dict[str, torch.nn.Parameter]:
    """Uninitialised parameters for the merged weights, as in a live model."""
    return {
        job.name: torch.nn.Parameter(torch.empty(job.shape, dtype=dtype, device=tower.device), requires_grad=False)
        for job in tower.jobs
    }
