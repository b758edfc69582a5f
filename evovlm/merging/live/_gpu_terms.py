"""Each source's share in each tensor of a candidate on a GPU: weight, density, draw, and the table needed for them.

Knows assemblies, operands and tables; no placement and no launches. Masks are nested in density, so one cumulative
table per source, tensor and seed serves every candidate, and dot products depend on the models alone; tables are built
on first use, and serve every method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from evovlm.merging.assembly import Assembly
from evovlm.merging.live._gpu_operands import task_vector
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.methods.draws import draw_key
from evovlm.methods.interpolate import Products, model_stock, slerp
from evovlm.methods.kernels.layout import Operands
from evovlm.methods.kernels.numbers import Share
from evovlm.methods.kernels.products import dot_products
from evovlm.methods.kernels.tables import DrawSums, Magnitudes, largest_of_delta, magnitudes_of
from evovlm.methods.kernels.tabulate import draw_sums
from evovlm.recipe.schema import value_at

MAGNITUDES, PRODUCTS, DELTA_PRODUCTS = "magnitude", "products", "products of task vectors"

Levels = Mapping[tuple[str, str], tuple[float, float]]  # weight and density, by source and group
_Key = tuple[str, str, str, int]  # the kind of table, the tensor, the source, the draw
_Table = DrawSums | Magnitudes | Products | None


class Shares:
    """The tables for one assembly's candidates, and the shares computed from them."""

    def __init__(self) -> None:
        self._tables: dict[_Key, _Table] = {}

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

    def magnitudes(self, job: Job, source: int, operands: Operands) -> Magnitudes | None:
        """The table of one source's magnitudes in a tensor whose operands are in device memory."""
        found = self._table((MAGNITUDES, job.name, job.parts[source][0], 0), operands, source)
        return found if isinstance(found, Magnitudes) else None

    def forget(self) -> frozenset[str]:
        """Drop all tables; returns the names of tensors with a table of magnitudes that has not every value."""
        inexact = {
            name for (_, name, *_), table in self._tables.items() if isinstance(table, Magnitudes) and not table.exact
        }
        self._tables.clear()
        return frozenset(inexact)

    def _share(self, candidate: Assembly, levels: Levels, job: Job, operands: Operands, index: int) -> Share:
        source, _ = job.parts[index]
        weight, density = levels[source, job.group]
        draw = draw_key(candidate.recipe.seed, source, job.name)
        key = _key(candidate, levels, job, source)
        found = None if key is None else self._table(key, operands, index)
        if isinstance(found, DrawSums):
            return Share(weight, density, draw, draw_sums=found)
        if isinstance(found, Magnitudes):
            return Share(weight, density, draw, magnitudes=found)
        return Share(weight, density, draw, products=found)

    def _table(self, key: _Key, operands: Operands, index: int) -> _Table:
        if key not in self._tables:
            self._tables[key] = _make_table(key, operands, index)
        return self._tables[key]


def levels_of(candidate: Assembly) -> Levels:
    """Return a candidate's weights and densities, looked up once per source and layer group."""
    found = {}
    for source in candidate.recipe.source_names:
        told = candidate.recipe.of(source)
        for group in {job.group for job in candidate.jobs}:
            found[source, group] = (value_at(told.weight, group, 1.0), value_at(told.density, group, 1.0))
    return found


def _key(candidate: Assembly, levels: Levels, job: Job, source: str) -> _Key | None:
    """The key of the table that a source's share in a tensor needs; None if it needs none."""
    rule, drop = METHODS[candidate.recipe.method].rule, METHODS[candidate.recipe.method].drop
    if rule is slerp or rule is model_stock:
        return (PRODUCTS if rule is slerp else DELTA_PRODUCTS), job.name, "", 0
    _, density = levels[source, job.group]
    if drop is None or not 0 < density < 1:
        return None
    if drop == "random":
        needed = candidate.options.rescale == "l1"
        return (drop, job.name, source, draw_key(candidate.recipe.seed, source, job.name)) if needed else None
    return MAGNITUDES, job.name, source, 0


def _make_table(key: _Key, operands: Operands, index: int) -> _Table:
    """Build a table; None if it is of a task vector that is zero or not finite."""
    kind, _, _, draw = key
    if kind == PRODUCTS:
        return dot_products(operands.sources, None)
    if kind == DELTA_PRODUCTS:
        return dot_products(operands.sources, operands.base)
    sizes = task_vector(operands, index).abs_()
    largest = largest_of_delta(sizes)
    if not math.isfinite(largest) or largest == 0.0:
        return None
    return magnitudes_of(sizes) if kind == MAGNITUDES else draw_sums(sizes, draw, largest)
