"""Picks the best of several candidates for one row of the held-out table.

Knows scores and failures; no models and no items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evovlm.system.errors import UserError
from evovlm.system.faults import Passing, machine_fault, row_failure
from evovlm.system.progress import Progress, Watch, part_of

Scorer = Callable[[Progress], float]  # scores a candidate, and reports how many of its questions are answered


class NotPicked(Exception):
    """No candidate of a control can be picked; `failure`: why, as `row_failure` tells it."""

    def __init__(self, failure: str) -> None:
        super().__init__(failure)
        self.failure = failure


def best_of(candidates: Mapping[str, Scorer], watch: Watch, label: str) -> str:
    """The label of the best-scoring candidate; one that fails by its own values is left out.

    `label`: what is shown before a candidate's own label. Raises NotPicked if none has a score, or if one could not be
    scored for another reason: a pick among the others would then be a weaker control than this one is.
    """
    scores: dict[str, float] = {}
    failure = ""
    for name, score in candidates.items():
        title = f"{label} {name}"
        try:
            scores[name] = score(part_of(watch, title))
        except Exception as fault:
            failure = row_failure(fault)
            title = f"{title}: {failure}"
            if isinstance(failure, Passing) and isinstance(machine_fault(fault) or fault, UserError | OSError):
                watch.step(title)
                raise NotPicked(failure) from None
        watch.step(title)
    if not scores:
        raise NotPicked(failure)
    return max(scores, key=lambda name: scores[name])
