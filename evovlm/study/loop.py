"""The loop that all searches share: replay the log, ask, evaluate, log, tell, stop after a number of trials.

Knows a searcher and the study; not how candidates are evaluated. `run_generations` is the loop of searches that wait
for a whole generation: `sequential` evaluates one candidate after another, `raced` races a generation's candidates.
`steady` takes the same steps in the order in which workers finish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from evovlm.recipe.schema import Recipe
from evovlm.search import Genome, Score, Searcher
from evovlm.search.protocol import exact_genes
from evovlm.study._scored import Scored
from evovlm.study.log import Trial
from evovlm.study.study import Study
from evovlm.system.faults import failure_of

Evaluate = Callable[[Recipe], Scored]
OnTrial = Callable[[Trial], None]


def _nothing_to_confirm(trial: Trial) -> None:
    pass


@dataclass(frozen=True)
class Candidate:
    """One candidate of a generation.

    log: evaluates and logs it, if the log has no trial of it yet. confirm: raises StudyError if its trial in the log
    cannot be from this search. told: whether its score is passed to the searcher.
    """

    genome: Genome
    log: Callable[[], Trial]
    confirm: Callable[[Trial], None] = _nothing_to_confirm
    told: bool = True


# (generation, genomes, whether the log already has its first trial) -> its candidates in log order.
Candidates = Callable[[int, list[Genome], bool], Iterable[Candidate]]


def run_generations(study: Study, searcher: Searcher, candidates: Candidates, trials: int, on_trial: OnTrial) -> None:
    """Search until the log has `trials` trials; `on_trial` is called with each new one.

    Trials already in the log are passed to the searcher and not logged again. Raises what `Study.as_logged` raises if a
    genome differs from the log's, and what `Study.refuse_hopeless` raises.
    """
    generation = done = 0
    while done < trials:
        genomes = searcher.ask()
        exact = exact_genes(searcher, len(genomes[0])) if generation else len(genomes[0])
        for place, trial in enumerate(study.trials[done : done + len(genomes)]):
            genomes[place] = study.as_logged(trial.genome, genomes[place], exact, study.place_of(trial), trial)
        told: list[Trial] = []
        for candidate in candidates(generation, genomes, done < len(study.trials)):
            if done == trials:
                return  # in the middle of a generation; a run with more trials continues there
            if done < len(study.trials):
                trial = study.trials[done]
                study.refuse_other_genome(trial, candidate.genome)
                candidate.confirm(trial)
            else:
                trial = candidate.log()
                on_trial(trial)
            done += 1
            study.refuse_hopeless(done, len(genomes))
            told += [trial] if candidate.told else []
        searcher.tell(genomes, [score_of(trial) for trial in told])
        generation += 1


def outcome_of(evaluate: Evaluate, recipe: Recipe) -> Scored | str:
    """A candidate's evaluation, or the text of its failure. Raises what is not a candidate's: see `failure_of`."""
    try:
        return evaluate(recipe)
    except Exception as fault:
        return failure_of(fault)


def score_of(trial: Trial) -> Score:
    """A trial's score as passed to the searcher: all objectives if there are several, None if the trial failed."""
    return trial.values or trial.score
