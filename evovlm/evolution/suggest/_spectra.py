"""Spectra of task vectors: does a difference of weights have directions of its own, or is it noise?

Knows assemblies and tensors; no tasks, engines or scores. What a tune learns lies in few directions, so that the
largest singular value of its task vector stands out; in a matrix of independent noise of the same length it is
sqrt(rows) + sqrt(columns) times the noise's standard deviation (Marchenko and Pastur, 1967; Geman, 1980). Their ratio
is `prominence`: about 1 for noise, 1.5 and more for tunes. A copy with noise is known by what it has beside the
original: take the projection on the original away, and noise is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from evovlm.merging.assembly import Assembly

Pair = tuple[str, str]
NOISE = 1.15  # a prominence up to which a difference counts as noise
SURE = 0.02  # prominences of two differences that lie nearer than this tell nothing about who copied whom
NARROW = 32  # matrices with fewer rows or columns tell little
ROUNDS = 16  # of power iteration; noise has no gap, so its largest value comes out a few per cent low


@dataclass(frozen=True)
class Spectra:
    """The median prominence over a source's matrices; `beside`: of what (one, other)'s first has beside the second."""

    own: Mapping[str, float]
    beside: Mapping[Pair, float]

    def is_noise(self, source: str) -> bool:
        """Whether a source's task vector has no direction that stands out."""
        return self.own[source] <= NOISE

    def original(self, source: str) -> str | None:
        """Which source this one is a copy of, with nothing but noise beside it; None where it is no copy.

        Where either could be the copy, the one whose rest is more like noise is, and of twins the one named later. A
        copy of a copy is the first one's.
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


def spectra(assembly: Assembly, kin: Iterable[Pair]) -> Spectra:
    """Prominences of an assembly's sources, and of `kin` pairs both ways; one tensor of each is in memory at a time."""
    pairs = [pair for one, other in kin for pair in ((one, other), (other, one))]
    own: dict[str, list[float]] = {name: [] for name in assembly.sources}
    beside: dict[Pair, list[float]] = {pair: [] for pair in pairs}
    for job in assembly.jobs:
        base = assembly.base_tensor(job)
        assert base is not None, "task vectors need a base"
        if base.ndim != 2 or min(base.shape) < NARROW:
            continue
        vectors = {
            source: assembly.source_tensor(job, source, name, base).float() - base.float() for source, name in job.parts
        }
        for source, vector in vectors.items():
            own[source].append(prominence(vector))
        for one, other in pairs:
            if one in vectors and other in vectors:
                beside[one, other].append(prominence(_without(vectors[one], vectors[other])))
    return Spectra(
        own={name: median(found) if found else math.inf for name, found in own.items()},
        beside={pair: median(found) if found else math.inf for pair, found in beside.items()},
    )


def prominence(matrix: Tensor) -> float:
    """The largest singular value [rows, columns], in units of what noise of the same length would have; 0 for zeros."""
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
    """The part of `one` that is orthogonal to `other`; nothing where only rounding is left."""
    square = other.square().sum()
    rest = one - (one * other).sum() / square * other if float(square) > 0 else one
    return rest if float(rest.norm()) > 1e-6 * float(one.norm()) else torch.zeros_like(rest)
