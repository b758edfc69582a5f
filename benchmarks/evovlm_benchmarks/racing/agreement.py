"""Ranking agreement on saved full evaluations: how well few items identify the better half of a generation.

Knows tables of scores [generations, candidates, items]; no models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evovlm.search.race import RaceSettings, item_order, looks, race

Table = NDArray[np.float64]
DRAWS = 20


@dataclass(frozen=True)
class Agreement:
    """`answers` per generation; `found`: share of the true better half; `tau`: Kendall's tau with the full ranking."""

    way: str
    answers: float
    found: float
    tau: float


def agreement(table: Table, seed: int = 0) -> list[Agreement]:
    """Compare random subsets of the items, and races, with the ranking on all items.

    `table`: scores [generations, candidates, items].
    """
    rng = np.random.default_rng(seed)
    items = table.shape[2]
    ways = [_sampled(table, share, rng) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2)]
    for name, settings in {
        "race, to 1/16": RaceSettings(),
        "race, to 1/4": RaceSettings(most=1 / 4),
        "race, to all": RaceSettings(most=1.0),
        "race, to all, random items": RaceSettings(most=1.0, random=1.0),
    }.items():
        assert looks(items, settings)
        ways.append(_raced(table, name, settings, rng))
    return ways


def _sampled(table: Table, share: float, rng: np.random.Generator) -> Agreement:
    count = max(2, round(table.shape[2] * share))
    pairs = []
    for scores in table:
        for _ in range(DRAWS):
            chosen = rng.choice(table.shape[2], count, replace=False)
            pairs.append(_compare(scores[:, chosen].mean(axis=1), scores))
    return Agreement(f"{share:g} of the items", float(count * table.shape[1]), *np.mean(pairs, axis=0).tolist())


def _raced(table: Table, name: str, settings: RaceSettings, rng: np.random.Generator) -> Agreement:
    pairs, answers = [], []
    for generation, scores in enumerate(table):
        earlier = table[:generation].reshape(-1, table.shape[2]) if generation else np.full((0, table.shape[2]), np.nan)

        def ask(candidates: Sequence[int], items: Sequence[int], scores: Table = scores) -> Table:
            return scores[np.ix_(list(candidates), list(items))]

        for _ in range(DRAWS):
            order = item_order(earlier, settings, rng)
            found = race(ask, len(scores), len(scores) // 2, order, table.shape[2], settings)
            answers.append(found.answers)
            pairs.append(_compare(np.array(found.scores), scores))
    return Agreement(name, float(np.mean(answers)), *np.mean(pairs, axis=0).tolist())


def _compare(estimate: Table, scores: Table) -> tuple[float, float]:
    """The share of the better half that the estimate finds (ties broken by position in both), and Kendall's tau."""
    keep = len(scores) // 2
    true = scores.mean(axis=1)
    best, chosen = (set(np.argsort(-values, kind="stable")[:keep]) for values in (true, estimate))
    tau = stats.kendalltau(estimate, true).statistic
    return len(best & chosen) / keep, float(tau) if np.isfinite(tau) else 0.0
