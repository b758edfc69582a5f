"""A candidate's numbers: what the fused pass multiplies by and compares with, one row per tensor and source.

Knows weights, densities, keys and tables; no models, recipes or devices. The same rules as on the CPU: see
`methods._drop`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evovlm.methods import LEAST_DIVISOR, METHODS, MergeOptions, as_float32
from evovlm.methods.draws import LEVELS, threshold
from evovlm.methods.interpolate import Products, copy_single, model_stock, slerp, slerp_factors, stock_share
from evovlm.methods.kernels.layout import SETS, WIDTH
from evovlm.methods.kernels.tables import DrawSums, Magnitudes
from evovlm.methods.options import Drop
from evovlm.system.errors import UnfitValues

ALWAYS = 0xFFFFFFFF  # a limit that keeps every draw
MOST_IN_SETS = 3  # sources: the kernel selects among the reciprocals of so many
# Sums of weights, and their inverses, up to which a quotient computed from a reciprocal is rounded as division does.
LARGEST_SUM = 2.0**20


class Share(NamedTuple):
    """One source's share in one tensor. key: of its draws. Tables are None if not needed or delta is not finite.

    products: the tensor's dot products, for methods that weight by angles.
    """

    weight: float
    density: float
    key: int
    draw_sums: DrawSums | None = None
    magnitudes: Magnitudes | None = None
    products: Products | None = None


class Row(NamedTuple):
    """One row of numbers.

    factor: multiplies the kept elements. limit: the largest draw kept, as draw x 65536 + 65535. edge: with a drop by
    magnitude, larger magnitudes are kept and `limit` applies only to equal ones. top, top_limit: the same for the
    largest kept, where there is one. weight: what sign election divides by; for model_stock, the average's share, with
    the base's as `edge`.
    """

    factor: float
    limit: int = ALWAYS
    edge: float = -1.0  # every magnitude is larger
    top: float = math.inf
    top_limit: int = ALWAYS
    weight: float | None = None  # None: the source's own


def rows_of(method: str, options: MergeOptions, shares: Sequence[Sequence[Share]]) -> NDArray[np.int32]:
    """The numbers, int32 [tensors, sources, WIDTH], for each tensor's shares in source order; floats as their bits."""
    every = [share for sources in shares for share in sources]
    rows = [row for sources in shares for row in _rows(method, options, sources)]
    numbers = np.zeros((len(every), WIDTH), dtype=np.uint32)
    floats = numbers.view(np.float32)
    keys = np.array([share.key for share in every], dtype=np.uint64)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which the merge then reports
        floats[:, 0] = np.array([row.factor for row in rows], dtype=np.float64)
        weights = [share.weight if row.weight is None else row.weight for row, share in zip(rows, every, strict=True)]
        floats[:, 1] = np.array(weights, dtype=np.float64)
        floats[:, 3] = np.array([row.edge for row in rows], dtype=np.float64)
    numbers[:, 2] = [row.limit for row in rows]
    numbers[:, 4], numbers[:, 5] = keys & np.uint64(0xFFFFFFFF), keys >> np.uint64(32)
    floats[:, 6] = [row.top for row in rows]
    numbers[:, 7] = [row.top_limit for row in rows]
    return numbers.view(np.int32).reshape(len(shares), -1, WIDTH)


def divisors_of(method: str, options: MergeOptions, shares: Sequence[Sequence[Share]]) -> NDArray[np.float32]:
    """float32 [tensors, SETS]: what tau is divided by, in the first column.

    With elected signs that depends on which sources are kept. If there are at most three, the other columns have the
    reciprocals of their summed weights, by set, and the first is 0 if a sum is too small or too large for these.
    Raises UnfitValues if the weights of `linear` sum to 0.
    """
    divisors = np.ones((len(shares), SETS), dtype=np.float32)
    if not METHODS[method].elect:
        divisors[:, 0] = _totals(method, options, shares)
    elif options.normalize and len(shares[0]) <= MOST_IN_SETS:
        with np.errstate(over="ignore"):
            weights = np.array([[share.weight for share in sources] for sources in shares]).astype(np.float32)
        for chosen in range(1, 2 ** weights.shape[1]):
            total = np.zeros(len(shares), dtype=np.float32)
            for source in range(weights.shape[1]):
                if chosen >> source & 1:
                    total += weights[:, source]
            fits = (np.abs(total) >= 1 / LARGEST_SUM) & (np.abs(total) <= LARGEST_SUM)
            divisors[:, chosen] = 1 / np.where(fits, total, np.float32(1))
            divisors[~fits, 0] = 0
    return divisors


def _totals(method: str, options: MergeOptions, shares: Sequence[Sequence[Share]]) -> Sequence[float]:
    """By tensor, what tau is divided by if signs are not elected: the sum of the weights if these are normalised."""
    rule = METHODS[method].rule
    if rule is model_stock:
        return [len(sources) for sources in shares]
    if not options.normalize or rule in (slerp, copy_single):
        return [1.0] * len(shares)
    totals = [as_float32(sum(as_float32(share.weight) for share in sources)) for sources in shares]
    if method == "linear":
        if 0.0 in totals:
            raise UnfitValues("weight: linear's weights sum to 0; change one, or set `normalize: false`")
    else:
        totals = [total if abs(total) >= LEAST_DIVISOR else 1.0 for total in totals]
    return totals


def _rows(method: str, options: MergeOptions, sources: Sequence[Share]) -> list[Row]:
    """One tensor's rows, in source order."""
    rule, products = METHODS[method].rule, sources[0].products
    if rule is copy_single:
        return [Row(1.0)]
    if rule is slerp:
        first, second = sources
        assert products is not None
        return [Row(factor) for factor in slerp_factors(first.weight, second.weight, products)]
    if rule is model_stock:
        assert products is not None
        share = stock_share(len(sources), products)
        return [Row(1.0, edge=1.0 - share, weight=share)] * len(sources)
    made = MAKERS.get(METHODS[method].drop, _all)
    return [made(share, options) for share in sources]


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
    return Row(share.weight * ratio, *_edge(edge.value, edge.limit, np.inf))


def _by_window(share: Share, options: MergeOptions) -> Row:
    if share.density >= 1 or share.magnitudes is None:
        return _all(share, options)
    window = share.magnitudes.window(share.density, options.gamma) if share.density > 0 else None
    if window is None:
        return _none(share)
    kept = threshold(share.density) if options.rescale == "inverse" else 0
    limit, edge = _edge(window.bottom, window.bottom_limit, np.inf)
    top_limit, top = _edge(window.top, window.top_limit, -np.inf)
    return Row(share.weight * (LEVELS / kept if kept else 1.0), limit, edge, top, top_limit)


def _edge(value: float, limit: int, beyond: float) -> tuple[int, float]:
    """The limit and edge of a row.

    If no magnitude equal to the edge is to be kept, the edge moves by one float towards `beyond`, and everything that
    reaches it is kept.
    """
    if limit:
        return (limit << 16) - 1, value
    return ALWAYS, float(np.nextafter(np.float32(value), np.float32(beyond)))


MAKERS: dict[Drop | None, Callable[[Share, MergeOptions], Row]] = {
    "random": _by_draw,
    "magnitude": _by_magnitude,
    "breadcrumbs": _by_window,
}
