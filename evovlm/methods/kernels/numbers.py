"""A candidate's numbers: what the fused pass multiplies by and compares with, one row per tensor and source.

Knows weights, densities, keys and tables; no models, recipes or devices. The same rules as on the CPU: see
`methods.drop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evovlm.methods import LEAST_DIVISOR, METHODS, MergeOptions, as_float32
from evovlm.methods.draws import LEVELS, threshold
from evovlm.methods.kernels.layout import WIDTH
from evovlm.methods.kernels.tables import DrawSums, Magnitudes
from evovlm.system.errors import UnfitValues

ALWAYS = 0xFFFFFFFF  # a limit that keeps every draw


class Share(NamedTuple):
    """One source's share in one tensor. key: of its draws. Tables are None if not needed or delta is not finite."""

    weight: float
    density: float
    key: int
    draw_sums: DrawSums | None = None
    magnitudes: Magnitudes | None = None


class Row(NamedTuple):
    """One row of numbers.

    factor: multiplies the kept elements. limit: the largest draw kept, as draw x 65536 + 65535. edge: with a drop by
    magnitude, larger magnitudes are kept and `limit` applies only to equal ones.
    """

    factor: float
    limit: int = ALWAYS
    edge: float = -1.0  # every magnitude is larger


def rows_of(method: str, options: MergeOptions, shares: Sequence[Sequence[Share]]) -> NDArray[np.int32]:
    """The numbers, int32 [tensors, sources, WIDTH], for each tensor's shares in source order; floats as their bits."""
    drop = METHODS[method].drop
    made = {"random": _by_draw, "magnitude": _by_magnitude}.get(drop or "", _all)
    every = [share for sources in shares for share in sources]
    rows = [made(share, options) for share in every]
    numbers = np.zeros((len(every), WIDTH), dtype=np.uint32)
    floats = numbers.view(np.float32)
    keys = np.array([share.key for share in every], dtype=np.uint64)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the merge then reports
        floats[:, 0] = np.array([row.factor for row in rows], dtype=np.float64)
        floats[:, 1] = np.array([share.weight for share in every], dtype=np.float64)
    numbers[:, 2] = [row.limit for row in rows]
    floats[:, 3] = [row.edge for row in rows]
    numbers[:, 4], numbers[:, 5] = keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)
    return numbers.view(np.int32).reshape(len(shares), -1, WIDTH)


def divisors_of(method: str, options: MergeOptions, shares: Sequence[Sequence[Share]]) -> NDArray[np.float32]:
    """float32 [tensors]: what tau is divided by if weights are normalised and signs are not elected; otherwise 1.

    Raises UnfitValues if the weights of `linear` sum to 0.
    """
    if not options.normalize or METHODS[method].elect:
        return np.ones(len(shares), dtype=np.float32)
    totals = [as_float32(sum(as_float32(share.weight) for share in sources)) for sources in shares]
    if method == "linear":
        if 0.0 in totals:
            raise UnfitValues("weight: linear's weights sum to 0; change one, or set `normalize: false`")
    else:
        totals = [total if abs(total) >= LEAST_DIVISOR else 1.0 for total in totals]
    return np.array(totals, dtype=np.float32)


def _all(share: Share, options: MergeOptions) -> Row:
    return Row(share.weight)


def _none(share: Share) -> Row:
    return Row(0.0)


def _by_draw(share: Share, options: MergeOptions) -> Row:
    if share.density >= 1:
        return _all(share, options)
    limit = threshold(max(share.density, 0.0))
    if limit == 0:
        return _none(share)
    ratio = 1.0
    if options.rescale == "inverse":
        ratio = LEVELS / limit
    elif options.rescale == "l1" and share.draw_sums is not None:
        ratio = share.draw_sums.ratio(limit)
    return Row(share.weight * ratio, (limit << 16) - 1)


def _by_magnitude(share: Share, options: MergeOptions) -> Row:
    if share.density >= 1 or share.magnitudes is None:
        return _all(share, options)
    if share.density <= 0:
        return _none(share)
    edge = share.magnitudes.edge(share.density)
    ratio = 1.0
    if options.rescale == "inverse" and threshold(share.density):
        ratio = LEVELS / threshold(share.density)
    elif options.rescale == "l1":
        ratio = edge.ratio
    # If no equal magnitude is to be kept, move the edge up by one float and keep everything that reaches it.
    value = edge.value if edge.limit else float(np.nextafter(np.float32(edge.value), np.float32(np.inf)))
    return Row(share.weight * ratio, (edge.limit << 16) - 1 if edge.limit else ALWAYS, value)
