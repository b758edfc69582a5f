"""What all searches of a study share: replay the log, ask, evaluate, log, tell, stop at so many trials.

Knows a searcher and the study; not how candidates are evaluated. `run_generations` is the loop of searches that wait
for a whole generation: `sequential` evaluates one candidate after another, `raced` races a generation's candidates.
`steady` takes the same steps in the order in which workers answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evovlm.recipe.schema import Recipe
from evovlm.search import Genome, Score, Searcher
from evovlm.study._scored import Scored
from evovlm.study.log import Trial
from evovlm.study.study import Study
from evovlm.system.errors import CANDIDATE_FAULTS, StudyError, told_fault

Evaluate = Callable[[Recipe], Scored]
OnTrial = Callable[[Trial], None]


def _nothing_to_confirm(trial: Trial) -> None:
    pass


@dataclass(frozen=True)
class Candidate:
    """One candidate of a generation.

    log: evaluates it and logs it, where the log has no trial of it yet. confirm: raises StudyError where its trial in
    the log cannot be this search's. told: whether the searcher learns its score.
    """

    genome: Genome
    log: Callable[[], Trial]
    confirm: Callable[[Trial], None] = _nothing_to_confirm
    told: bool = True


# (generation, genomes, whether the log holds its first trial already) -> its candidates in the order of the log.
Candidates = Callable[[int, list[Genome], bool], Iterable[Candidate]]


def run_generations(study: Study, searcher: Searcher, candidates: Candidates, trials: int, on_trial: OnTrial) -> None:
    """Search until the log holds `trials` trials; `on_trial` hears each new one.

    Trials that the log holds already are told to the searcher and not logged again. Raises StudyError for a genome that
    differs from the log's, for then the same command no longer means the same search, and where every candidate of the
    first generation fails.
    """
    generation = done = 0
    while done < trials:
        genomes = searcher.ask()
        told: list[Trial] = []
        for candidate in candidates(generation, genomes, done < len(study.trials)):
            if done == trials:
                return  # the last generation is cut short; more trials would go on inside it
            if done < len(study.trials):
                trial = study.trials[done]
                study.refuse_other_genome(trial, candidate.genome)
                candidate.confirm(trial)
            else:
                trial = candidate.log()
                on_trial(trial)
            done += 1
            told += [trial] if candidate.told else []
        if generation == 0:
            refuse_hopeless(told)
        searcher.tell(genomes, [score_of(trial) for trial in told])
        generation += 1


def outcome_of(evaluate: Evaluate, recipe: Recipe) -> Scored | str:
    """A candidate's evaluation, or its fault in words. Anything else that goes wrong is raised as it is."""
    try:
        return evaluate(recipe)
    except CANDIDATE_FAULTS as fault:
        return told_fault(fault)


def score_of(trial: Trial) -> Score:
    """What a searcher is told of a trial: all objectives where there are several, None where it failed."""
    return trial.values or trial.score


def refuse_hopeless(first: Sequence[Trial]) -> None:
    """Raises StudyError where every trial of the first generation failed."""
    if first and all(trial.score is None for trial in first):
        raise StudyError(f"every candidate of the first generation failed: {first[0].error}")
