"""Each source's share in each tensor of a candidate on a GPU: weight, density, draw, and the table needed for them.

Knows assemblies, operands and tables; no placement and no launches. Masks are nested in density, so one cumulative
table per source, tensor and seed serves every candidate; it is built on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_operands import task_vector
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.methods.draws import draw_key
from evovlm.methods.kernels.layout import Operands
from evovlm.methods.kernels.numbers import Share
from evovlm.methods.kernels.tables import DrawSums, Magnitudes, largest_of_delta, magnitudes_of
from evovlm.methods.kernels.tabulate import draw_sums
from evovlm.recipe.schema import value_at

Levels = Mapping[tuple[str, str], tuple[float, float]]  # weight and density, by source and group
_Key = tuple[str, str, str, int]  # the drop rule, the tensor, the source, the draw


class Shares:
    """The tables for one assembly's candidates, and the shares computed from them."""

    def __init__(self) -> None:
        self._tables: dict[_Key, DrawSums | Magnitudes | None] = {}

    def of(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands) -> list[Share]:
        """Return each source's share in a tensor.

        If a table is still to be built, the tensor's operands must be in device memory.
        """
        return [self._share(candidate, levels, job, operands, index) for index in range(len(job.parts))]

    def lack_tables(self, candidate: Assembly, levels: Levels, jobs: Iterable[Job]) -> bool:
        """Whether a table is still to be built for any of these tensors."""
        return any(
            key is not None and key not in self._tables
            for job in jobs
            for source, _ in job.parts
            for key in [_key(candidate, levels, job, source)]
        )

    def _share(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands, index: int) -> Share:
        source, _ = job.parts[index]
        weight, density = levels[source, job.group]
        draw = draw_key(candidate.recipe.seed, source, job.name)
        key = _key(candidate, levels, job, source)
        if key is None:
            return Share(weight, density, draw)
        if key not in self._tables:
            self._tables[key] = _table(key, operands, index)
        found = self._tables[key]
        if isinstance(found, DrawSums):
            return Share(weight, density, draw, draw_sums=found)
        return Share(weight, density, draw, magnitudes=found)


def levels_of(candidate: Assembly) -> Levels:
    """Return a candidate's weights and densities, looked up once per source and layer group."""
    found = {}
    for source in candidate.recipe.source_names:
        told = candidate.recipe.of(source)
        for group in {job.group for job in candidate.jobs}:
            found[source, group] = (value_at(told.weight, group, 1.0), value_at(told.density, group, 1.0))
    return found


def _key(candidate: Assembly, levels: Levels, job: Job, source: str) -> _Key | None:
    """The key of the table for a source's kept elements in a tensor, or their sum; None if no table is needed."""
    drop = METHODS[candidate.recipe.method].drop
    _, density = levels[source, job.group]
    if drop is None or not 0 < density < 1:
        return None
    if drop == "random":
        needed = candidate.options.rescale == "l1"
        return (drop, job.name, source, draw_key(candidate.recipe.seed, source, job.name)) if needed else None
    return drop, job.name, source, 0


def _table(key: _Key, operands: Operands, index: int) -> DrawSums | Magnitudes | None:
    """Build a table; None if the task vector is zero or not finite."""
    drop, _, _, draw = key
    sizes = task_vector(operands, index).abs_()
    largest = largest_of_delta(sizes)
    if not math.isfinite(largest) or largest == 0.0:
        return None
    return draw_sums(sizes, draw, largest) if drop == "random" else magnitudes_of(sizes)
