"""Spectra of task vectors: does a difference of weights have dominant directions, or is it noise?

Knows assemblies and tensors; no tasks, engines or scores. Fine-tuning changes weights in a few directions, so the
largest singular value of a task vector stands out; in a matrix of independent noise of the same norm it is
sqrt(rows) + sqrt(columns) times the noise's standard deviation (Marchenko and Pastur, 1967; Geman, 1980). Their ratio
is `prominence`: about 1 for noise, 1.5 and more for fine-tuned models. A noisy copy is detected by its difference from
the original: without its projection on the original, only noise is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from evovlm.evolution.suggest.kinship import task_vectors
from evovlm.merging.assembly import Assembly

Pair = tuple[str, str]
NOISE = 1.15  # a prominence up to which a difference counts as noise
SURE = 0.02  # if two prominences differ by less than this, they do not show which source is the copy
NARROW = 32  # matrices with fewer rows or columns carry too little information
ROUNDS = 16  # of power iteration; noise has no spectral gap, so its largest value comes out a few per cent low


@dataclass(frozen=True)
class Spectra:
    """Median prominences over a source's matrices.

    own: of each source's task vector; beside: (one, other) -> of the part of one's task vector orthogonal to other's.
    """

    own: Mapping[str, float]
    beside: Mapping[Pair, float]

    def is_noise(self, source: str) -> bool:
        """Whether a source's task vector has no dominant direction."""
        return self.own[source] <= NOISE

    def original(self, source: str) -> str | None:
        """The source that this one is a noisy copy of; None if it is not a copy.

        If either of two could be the copy, it is the one whose difference is more like noise; if both are equally
        so, the one named later. A copy of a copy counts as a copy of the first original.
        """
        chain = [source]
        while (model := self._copied(chain[-1])) is not None and model not in chain:
            chain.append(model)
        return chain[-1] if len(chain) > 1 else None

    def _copied(self, source: str) -> str | None:
        found = []
        for (one, other), rest in self.beside.items():
            if one != source or rest > NOISE or self.is_noise(other):
                continue
            back = self.beside[other, one]
            if rest < back - SURE or (abs(rest - back) <= SURE and self._later(one, other)):
                found.append((rest, other))
        return min(found)[1] if found else None

    def _later(self, one: str, other: str) -> bool:
        names = list(self.own)
        return names.index(one) > names.index(other)


def spectra(assembly: Assembly, kin: Iterable[Pair], device: torch.device, step: Callable[[str], None]) -> Spectra:
    """Prominences of an assembly's sources and, in both directions, of the `kin` pairs; the recipe needs a base.

    Holds one tensor of each source on the device at a time. `step` is called with the name of each tensor that is done.
    """
    pairs = [pair for one, other in kin for pair in ((one, other), (other, one))]
    own: dict[str, list[float]] = {name: [] for name in assembly.sources}
    beside: dict[Pair, list[float]] = {pair: [] for pair in pairs}
    for job in assembly.jobs:
        if len(job.shape) != 2 or min(job.shape) < NARROW:
            step(job.name)
            continue
        vectors = task_vectors(assembly, job, device)
        for source, vector in vectors.items():
            own[source].append(prominence(vector))
        for one, other in pairs:
            if one in vectors and other in vectors:
                beside[one, other].append(prominence(_without(vectors[one], vectors[other])))
        step(job.name)
    return Spectra(
        own={name: median(found) if found else math.inf for name, found in own.items()},
        beside={pair: median(found) if found else math.inf for pair, found in beside.items()},
    )


def prominence(matrix: Tensor) -> float:
    """The largest singular value of `matrix` [rows, columns], relative to noise of the same norm; 0 for all zeros."""
    rows, columns = matrix.shape
    length = float(matrix.norm())
    if length == 0.0:
        return 0.0
    vector = torch.randn(columns, generator=torch.Generator().manual_seed(0)).to(matrix)
    largest = 0.0
    for _ in range(ROUNDS):
        seen = matrix @ (vector / vector.norm())
        largest = float(seen.norm())
        vector = matrix.T @ seen
        if largest == 0.0 or float(vector.norm()) == 0.0:
            break
    return largest * math.sqrt(rows * columns) / (length * (math.sqrt(rows) + math.sqrt(columns)))


def _without(one: Tensor, other: Tensor) -> Tensor:
    """The part of `one` that is orthogonal to `other`; zeros if only rounding error is left."""
    square = other.square().sum()
    rest = one - (one * other).sum() / square * other if float(square) > 0 else one
    return rest if float(rest.norm()) > 1e-6 * float(one.norm()) else torch.zeros_like(rest)
