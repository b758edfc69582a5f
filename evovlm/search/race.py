"""Races: find the best candidates of a generation with as few items as possible. Knows only numbers.

All candidates see the same items in the same order (common random numbers), so that an item's difficulty cancels in
paired differences. After each block a candidate is dropped if at least `keep` others beat it in a one-sided paired
t-test, because it then cannot be among the `keep` that a rank-based searcher learns from. The race ends when that set
is decided, or at `most` items.

Statistics: races for the mu best of an evolution strategy are from Heidrich-Meisner and Igel (ICML 2009), the paired
t-test in races from Moore and Lee (1994) and irace (Lopez-Ibanez et al., 2016; F-Race: Birattari et al., 2002).
Student's t rather than a rank test, so that it works for real scores (ROUGE-L) as well as for 0 and 100. The level of a
single test is loose and is not corrected for the number of looks or pairs: a false drop takes `keep` wrong tests at
once, and it costs only a rank, which the next generation corrects. Items are drawn without replacement from a finite
set, so variances get the factor 1 - n / N (Cochran, 1977). New items in every generation keep a search from overfitting
to few items, as minibatches do; this is why a race may end undecided at a small share of the items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# (candidates, items) -> scores [candidates, items]; a candidate that failed has a row of NaN.
Ask = Callable[[Sequence[int], Sequence[int]], Array]

FEWEST = 16


@dataclass(frozen=True)
class RaceSettings:
    """How a race is run.

    first: items in the first block; growth: the factor by which the number of items grows from one look to the next;
    most: the largest share of the items that a race uses (but at least `FEWEST` items); level: error level of each
    one-sided test; random: the share of items drawn at random rather than by informativeness.
    """

    first: int = 4
    growth: float = 2.0
    most: float = 1 / 16
    level: float = 0.3
    random: float = 0.5


@dataclass(frozen=True)
class Raced:
    """The result of a race: how many items of the order each candidate saw, and its score for ranking.

    scores: each candidate's mean over the items it saw, plus the change in mean that candidates which saw all of the
    race's items had on the rest; NaN if it failed.
    """

    seen: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def answers(self) -> int:
        """The number of answers generated."""
        return sum(self.seen)


def looks(items: int, settings: RaceSettings) -> list[int]:
    """The numbers of items after which candidates are compared: growing blocks up to the most a race may use."""
    most = min(items, max(FEWEST, round(items * settings.most)))
    found = [min(settings.first, most)]
    while found[-1] < most:
        grown = max(found[-1] + 1, round(found[-1] * settings.growth))
        # A last block of only a few items is not worth a separate look.
        found.append(most if grown * settings.growth**0.5 > most else grown)
    return found


def race(ask: Ask, candidates: int, keep: int, order: Sequence[int], pool: int, settings: RaceSettings) -> Raced:
    """Race candidates over the items of `order` (from `item_order`); `pool`: the number of items it was drawn from.

    `keep`: how many of the best candidates the race has to find.
    """
    scores = np.full((candidates, len(order)), np.nan)
    seen = np.zeros(candidates, dtype=int)
    alive = list(range(candidates))
    plan = looks(pool, settings)
    before = 0
    for upto in plan:
        scores[alive, before:upto] = ask(alive, order[before:upto])
        seen[alive] = upto
        alive = [one for one in alive if not np.isnan(scores[one, :upto]).any()]
        left = surviving(scores[alive, :upto], keep, pool, settings.level)
        alive = [alive[place] for place in left]
        before = upto
        if len(alive) <= keep:
            break
    return Raced(tuple(int(count) for count in seen), _levelled(scores, seen))


def surviving(scores: Array, keep: int, pool: int, level: float) -> list[int]:
    """The rows of scores [candidates, items] that fewer than `keep` others beat at this error level."""
    count, items = scores.shape
    if count <= keep or items < 2:
        return list(range(count))
    differences = scores[None, :, :] - scores[:, None, :]  # [beaten, beating, items]
    mean, spread = differences.mean(axis=2), differences.std(axis=2, ddof=1)
    error = spread * np.sqrt(max(0.0, 1 - items / pool) / items)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, mean / error, np.where(mean > 0, np.inf, 0.0))
    from scipy import stats  # late: it takes three seconds to load

    beaten = (stats.t.sf(t, items - 1) < level) & (mean > 0)
    return [row for row in range(count) if int(beaten[row].sum()) < keep]


def item_order(known: Array, settings: RaceSettings, rng: np.random.Generator) -> list[int]:
    """The items that a race may use, in the order in which it uses them.

    known: scores of earlier candidates [candidates, items], NaN where not evaluated. Each next item is drawn uniformly
    with probability `random`, otherwise in proportion to its informativeness.
    """
    items = known.shape[1]
    most = looks(items, settings)[-1]
    weights = (1 - settings.random) * informativeness(known) + settings.random / items
    return [int(item) for item in rng.choice(items, size=most, replace=False, p=weights / weights.sum())]


def informativeness(known: Array) -> Array:
    """The informativeness of each item [items], summing to 1: the spread of its scores around the candidates' means.

    An item that all candidates answer alike does not help to rank them. A prior of one mean spread keeps an item that
    was used only a few times from being excluded; with fewer than two scores per item on average, all are equal.
    """
    items = known.shape[1]
    asked = ~np.isnan(known)
    if asked.sum() < 2 * items:
        return np.full(items, 1 / items)
    level = np.where(asked, known, 0.0).sum(axis=1, keepdims=True) / np.maximum(asked.sum(axis=1, keepdims=True), 1)
    residual = np.where(asked, known - level, 0.0)
    count = asked.sum(axis=0)
    means = residual.sum(axis=0) / np.maximum(count, 1)
    squares = np.where(asked, (residual - means) ** 2, 0.0).sum(axis=0)
    prior = squares.sum() / max(1, asked.sum())
    spread = np.sqrt((squares + prior) / (count + 1))
    return np.asarray(spread / spread.sum() if spread.sum() > 0 else np.full(items, 1 / items), dtype=np.float64)


def _levelled(scores: Array, seen: NDArray[np.int64]) -> tuple[float, ...]:
    """Comparable means: each plus the change in mean, after it left, of the candidates that stayed longest."""
    last = int(seen.max())
    longest = scores[(seen == last) & ~np.isnan(scores[:, :last]).any(axis=1), :last]
    found = []
    for row, upto in zip(scores, seen, strict=True):
        mean = float(row[:upto].mean())
        shift = float(longest.mean() - longest[:, :upto].mean()) if len(longest) else 0.0
        found.append(mean + shift)
    return tuple(found)
