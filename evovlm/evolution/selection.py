"""The choice of a study's winner: the best candidates are scored again, on items that the search has not seen.

Knows studies and evaluators; no plans and no held-out table.
"""

from __future__ import annotations

from evovlm.evaluators.local import LocalEvaluator
from evovlm.recipe.schema import Recipe
from evovlm.study import log as study_log
from evovlm.study.result import Finalist, Selection
from evovlm.study.study import Study
from evovlm.system.errors import NoScoreError
from evovlm.system.faults import failure_of
from evovlm.system.progress import Watch, part_of
from evovlm.tasks.item_sets import ItemSet

FINALISTS = 10


def choose_winner(
    study: Study, evaluator: LocalEvaluator, items: ItemSet, watch: Watch, name: str = "choice"
) -> tuple[Recipe, Selection]:
    """Score the best candidates again on items that the search has not seen; the best one there wins.

    The best of many noisy scores is biased upwards (the winner's curse): `luck` is the drop of the winner's score from
    search to fresh items. `name`: of the phase. Raises NoScoreError if no trial has a score or every finalist fails.
    """
    study.best()
    finalists = list(study.finalists(FINALISTS))
    watch.phase(name, len(finalists))
    rescored = []
    for trial in finalists:
        progress = part_of(watch, f"trial {trial.trial}")
        try:
            score = evaluator.evaluate(study.candidate(trial.genome), items, progress).score
        except Exception as fault:
            watch.step(f"trial {trial.trial}: {failure_of(fault)}", score=None)
            continue
        rescored.append((score, trial))
        watch.step(f"trial {trial.trial}", score=score)
    if not rescored:
        raise NoScoreError(f"{study.folder}: all finalists failed on fresh items; see {study_log.TRIALS}")
    score, trial = max(rescored, key=lambda pair: (pair[0], -pair[1].trial))
    selection = Selection(
        trial=trial.trial,
        search_score=trial.score or 0.0,
        choice_score=score,
        luck=(trial.score or 0.0) - score,
        items=len(items),
        finalists=tuple(Finalist(trial=t.trial, search_score=t.score or 0.0, choice_score=s) for s, t in rescored),
        **({"tied": tied} if (tied := study_log.tied(study.trials)) else {}),
    )
    return study.candidate(trial.genome), selection
