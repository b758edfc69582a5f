"""The sequential study: one candidate after another in this process.

Knows a searcher, an evaluate function and the study; no models.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from evovlm.search import Genome, Searcher
from evovlm.study.log import Trial
from evovlm.study.loop import Candidate, Evaluate, OnTrial, outcome_of, run_generations
from evovlm.study.study import Study


def run_sequential(study: Study, searcher: Searcher, evaluate: Evaluate, trials: int, on_trial: OnTrial) -> None:
    """Search until the log has `trials` trials, each synced to disk before the next starts.

    Raises the errors of `run_generations`.
    """

    def log(generation: int, genome: Genome) -> Trial:
        return study.add(generation, genome, outcome_of(evaluate, study.candidate(genome)))

    def candidates(generation: int, genomes: list[Genome], known: bool) -> Iterator[Candidate]:
        return (Candidate(genome, partial(log, generation, genome)) for genome in genomes)

    run_generations(study, searcher, candidates, trials, on_trial)
