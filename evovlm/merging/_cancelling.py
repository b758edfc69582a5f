"""Finds the subset of weights whose sum is the smallest share of their sizes, among any number of weights.

Knows numbers; no methods and no recipes. A subset's sum is P - N, the sums of its positive and of its negative weights'
sizes, and its share |P - N| / (P + N) is small where P and N are close. So the sums of each sign are listed by
themselves, and the closest pairs of the two sorted lists are looked at: 2^p + 2^n sums instead of 2^(p + n). Beyond
MOST_SUMS, sums that lie close together stand for each other; then they are dense, so that close pairs are not missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_SUMS = 2**13
NEIGHBOURS = (-2, -1, 0, 1)  # of a sum's place in the other list
EQUAL = 1e-6  # shares below this may be rounding, and depend on the order of the sum
MOST_EQUAL = 1024
WORD = 64

Sums = tuple[NDArray[np.float64], NDArray[np.uint64]]  # sorted, [sums], and which weights are in each, [sums, words]
Share = Callable[[Sequence[float]], tuple[float, float]]  # of a subset, in order: its share, and its sum


def smallest_share(weights: Sequence[float], share: Share) -> tuple[float, float]:
    """The smallest share of any subset with weights of both signs, and its sum, as `share` adds them up.

    A share of 1, and the sum of all, if there are no two signs.
    """
    words = -(-len(weights) // WORD)
    positive, negative = (
        _sums([(index, abs(weight)) for index, weight in enumerate(weights) if weight * sign > 0], words)
        for sign in (1, -1)
    )
    if not len(positive[0]) or not len(negative[0]):
        return 1.0, sum(weights)
    pairs = _closest(positive[0], negative[0])
    subsets = positive[1][pairs[:, 0]] | negative[1][pairs[:, 1]]
    shares = (share([weights[index] for index in _members(subset, len(weights))]) for subset in subsets)
    return min(shares, key=lambda found: found[0])


def _sums(values: Sequence[tuple[int, float]], words: int) -> Sums:
    """The sums of all subsets of (index, size) with at least one member."""
    sums, members = np.zeros(1), np.zeros((1, words), dtype=np.uint64)
    for index, size in values:
        more = members.copy()
        more[:, index // WORD] |= np.uint64(1 << index % WORD)
        sums, first = np.unique(np.concatenate([sums, sums + size]), return_index=True)
        members = np.concatenate([members, more])[first]
        if len(sums) > MOST_SUMS:
            kept = _spread(sums)
            sums, members = sums[kept], members[kept]
    return sums[1:], members[1:]


def _spread(sums: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the smallest and largest of the sums that lie close together, by ratio, and of 0 and both ends."""
    logs = np.log(sums[1:])
    width = (logs[-1] - logs[0]) / (MOST_SUMS // 2 - 1) or 1.0
    bins = np.floor((logs - logs[0]) / width)
    edges = np.flatnonzero(np.diff(bins))
    return np.unique(np.concatenate([[0, 1], edges + 1, edges + 2, [len(sums) - 1]]))


def _closest(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.intp]:
    """Pairs of indices [pairs, 2]: that of the smallest share above EQUAL, and those below."""
    places = np.searchsorted(left, right)
    near = np.stack([np.clip(places + step, 0, len(left) - 1) for step in NEIGHBOURS])
    shares = np.abs(left[near] - right) / (left[near] + right)
    order = np.argsort(shares, axis=None, kind="stable")
    flat = shares.ravel()[order]
    equal = int(np.searchsorted(flat, EQUAL))
    chosen = np.concatenate([order[: min(equal, MOST_EQUAL)], order[equal : equal + 1]])
    return np.stack([near.ravel()[chosen], chosen % len(right)], axis=1)


def _members(subset: NDArray[np.uint64], count: int) -> list[int]:
    return [index for index in range(count) if int(subset[index // WORD]) >> index % WORD & 1]
