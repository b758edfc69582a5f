"""Means and shares with intervals, paired differences between two models on the same items, corrected comparisons.

Knows no models or tasks. Every call uses its own random generator, made from the caller's seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Resampled indices are drawn in blocks of at most this many, to limit memory.
BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval; `median`, of the resampled means, is what the paper reports."""

    mean: float
    low: float
    high: float
    median: float


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of a - b over the same items; `p_value` is two-sided, from the same bootstrap."""

    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def bootstrap(
    scores: Sequence[float], *, seed: int, resamples: int = 1000, level: float = 0.95, clusters: Sequence[int] = ()
) -> Interval:
    """Mean of the scores and its percentile interval over resampled items (Efron 1979).

    clusters: the number of each item's cluster, such as its picture; items of a cluster are resampled together (Field
    and Welsh 2007), because their scores are alike. Empty: each item is a cluster of its own.
    Raises ValueError if there are no scores, a score is not finite, `resamples` is below 1, or `level` is not between
    0 and 1.
    """
    means = _resampled_means(_checked(scores), seed, resamples, clusters)
    return Interval(_mean(scores), *_percentiles(means, level))


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
    clusters: Sequence[int] = (),
) -> Difference:
    """Mean of a - b, item by item, with its interval; positive if a is better. clusters: see `bootstrap`.

    Items are resampled in pairs, so that an item's difficulty for both models cancels out. Raises ValueError
    if the lengths differ, and in the cases that `bootstrap` lists.
    """
    if len(a) != len(b):
        raise ValueError(f"a paired difference needs the same items: got {len(a)} and {len(b)} scores")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    means = _resampled_means(_checked(differences), seed, resamples, clusters)
    # Add one to the count: a bootstrap of N draws cannot show a probability below 1 / (N + 1).
    tail = min(int((means <= 0).sum()), int((means >= 0).sum())) + 1
    p_value = min(1.0, 2 * tail / (resamples + 1))
    return Difference(_mean(differences), *_percentiles(means, level), p_value=p_value)


def share_interval(flags: Sequence[bool], *, level: float = 0.95, clusters: Sequence[int] = ()) -> tuple[float, float]:
    """The interval of a share, 0 to 1: Wilson's score interval (1927), which also holds near 0 and 1.

    clusters: see `bootstrap`. Items that share a cluster count as fewer: as many as the share's standard error over
    clusters tells (Korn and Graubard 1998), at least `effective_count`. Raises ValueError if there are no flags, or
    `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if not flags:
        raise ValueError("no answers to count")
    share, z = sum(flags) / len(flags), NormalDist().inv_cdf((1 + level) / 2)
    count = float(len(flags))
    if _shared(clusters):
        error = standard_error([float(flag) for flag in flags], clusters)
        told = share * (1 - share) / error**2 if error > 0 else 0.0
        count = min(count, max(told, effective_count(clusters, len(flags))))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    # Exactly 0 and 1 at the ends, where rounding would leave a little.
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number, in the same order (Holm 1979).

    If those below a level are called significant, the probability that any of them is a false alarm is at most that
    level.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return tuple(corrected)


def effective_count(clusters: Sequence[int], items: int) -> float:
    """How many independent items a set is worth if the items of a cluster are alike (Kish 1965).

    clusters: see `bootstrap`; empty: all `items`.
    """
    if not clusters:
        return float(items)
    sizes = np.bincount(_numbered(clusters, items))
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def nested_mean(
    runs: Sequence[Sequence[Sequence[float]]], *, seed: int, resamples: int = 1000, level: float = 0.95
) -> Interval:
    """The mean over training seeds, search seeds and items, with its interval by a bootstrap over all three.

    runs: by training seed, by search seed, one value per item, such as the paired difference of two models. Every
    training seed has the same search seeds, and those of one place are asked the same items. Training seeds are
    resampled, search seeds too, and for each search seed that is drawn its items, the same for all training seeds
    (the pigeonhole bootstrap, Owen 2007): the interval is one for another training, another search and other items,
    and rather too wide than too narrow. With few seeds it is still too narrow. Raises ValueError if the training seeds
    differ in their searches or those of a place in their items, and in the cases that `bootstrap` lists.
    """
    if not runs or not runs[0] or len({len(of) for of in runs}) > 1:
        raise ValueError("every training seed needs the same searches, and at least one")
    for values in zip(*runs, strict=True):
        if len({len(one) for one in values}) > 1:
            raise ValueError("a search seed needs the same items for every training seed")
    # By search seed: float64 [training seeds, items].
    places = [np.stack([_checked(one) for one in values]) for values in zip(*runs, strict=True)]
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for draw in range(resamples):
        trained = rng.integers(len(runs), size=len(runs))
        drawn = [places[place] for place in rng.integers(len(places), size=len(places))]
        of_items = [one[:, rng.integers(one.shape[1], size=one.shape[1])].mean(axis=1) for one in drawn]
        means[draw] = float(np.mean([of[trained].mean() for of in of_items]))
    middle = _mean([_mean([_mean(items) for items in of]) for of in runs])
    return Interval(middle, *_percentiles(means, level))


def standard_error(scores: Sequence[float], clusters: Sequence[int] = ()) -> float:
    """The standard error of the mean score; 0 for fewer than two clusters. clusters: see `bootstrap`.

    With clusters it is that of a ratio: what a cluster adds to the sum, over the number of items (Cochran 1977).
    """
    values = np.asarray(scores, dtype=np.float64)
    if not _shared(clusters):
        return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    sums = np.bincount(_numbered(clusters, len(values)), weights=values - values.mean())
    if len(sums) < 2:
        return 0.0
    return float(math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(values))


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two sets of scores of the same candidates: 1 same order, -1 reversed; 0 if all are tied."""
    from scipy import stats  # late: it takes three seconds to load

    tau = float(stats.kendalltau(one, other).statistic)
    return tau if math.isfinite(tau) else 0.0


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _checked(scores: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no scores to average")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite numbers")
    return values


def _resampled_means(
    values: NDArray[np.float64], seed: int, resamples: int, clusters: Sequence[int]
) -> NDArray[np.float64]:
    """Means of `resamples` draws with replacement, float64 [resamples]; independent of the block size."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    sums: NDArray[np.float64] = values
    counts: NDArray[np.int64] | None = None
    if _shared(clusters):
        numbers = _numbered(clusters, len(values))
        sums = np.bincount(numbers, weights=values).astype(np.float64)
        counts = np.bincount(numbers).astype(np.int64)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK // len(sums))
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        chosen = rng.integers(len(sums), size=(stop - start, len(sums)))
        drawn = sums[chosen]
        means[start:stop] = drawn.mean(axis=1) if counts is None else drawn.sum(axis=1) / counts[chosen].sum(axis=1)
    return means


def _shared(clusters: Sequence[int]) -> bool:
    """Whether any cluster has several items."""
    return len(set(clusters)) < len(clusters)


def _numbered(clusters: Sequence[int], items: int) -> NDArray[np.int64]:
    """The clusters' numbers from 0 on, without gaps, one per item."""
    if len(clusters) != items:
        raise ValueError(f"{items} scores need {items} cluster numbers, not {len(clusters)}")
    return np.asarray(np.unique(np.asarray(clusters), return_inverse=True)[1], dtype=np.int64)


def _percentiles(means: NDArray[np.float64], level: float) -> tuple[float, float, float]:
    """Low end, high end and median of the resampled means."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    tail = 50 * (1 - level)
    low, high, median = np.percentile(means, [tail, 100 - tail, 50])
    return float(low), float(high), float(median)
