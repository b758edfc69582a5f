"""The raced study: a generation at a time, its candidates raced against each other.

Knows a rank-based searcher, a racer and the study's files; no models. Beside each generation its center is evaluated
and logged (`told` false): where scores are noisy, the center of a search is a better bet than its luckiest candidate
(Hansen et al., 2009, on CMA-ES under uncertainty). After a restart the generations are raced again; the cache holds
their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evovlm.errors import StudyError
from evovlm.evaluators.racer import RacedEvaluation
from evovlm.recipe import Recipe
from evovlm.search import Genome, Searcher
from evovlm.study import OnTrial, Study

RaceGeneration = Callable[[int, Sequence[Recipe], Recipe], Sequence[RacedEvaluation | str]]


def run_raced(study: Study, searcher: Searcher, race: RaceGeneration, trials: int, on_trial: OnTrial) -> None:
    """Search until the log holds `trials` trials, centers included; the last generation is raced whole.

    Raises StudyError where the log has other genomes or scores than this search makes.
    """
    generation = 0
    done = 0
    while done < trials:
        genomes = searcher.ask()
        center: Genome = tuple(sum(genes) / len(genomes) for genes in zip(*genomes, strict=True))
        outcomes = race(generation, [study.candidate(genome) for genome in genomes], study.candidate(center))
        for place, (genome, outcome) in enumerate(zip([*genomes, center], outcomes, strict=True)):
            if done == trials:
                return
            if done < len(study.trials):
                study.refuse_other_genome(study.trials[done], genome)
                _refuse_other_score(study, done, outcome)
            else:
                seen = None if isinstance(outcome, str) else outcome.seen
                on_trial(study.add(generation, genome, outcome, told=place < len(genomes), seen=seen))
            done += 1
        scores = [None if isinstance(outcome, str) else outcome.score for outcome in outcomes[:-1]]
        if generation == 0 and not any(score is not None for score in scores):
            raise StudyError(f"every candidate of the first generation failed: {study.trials[0].error}")
        searcher.tell(genomes, scores)
        generation += 1


def _refuse_other_score(study: Study, number: int, outcome: RacedEvaluation | str) -> None:
    known = study.trials[number].score
    if not isinstance(outcome, str) and known is not None and abs(known - outcome.score) > 1e-9:
        raise StudyError(
            f"{study.folder}: trial {number} scored {known} and now {outcome.score}: its cached answers are gone and"
            " this machine answers otherwise; start a new study in another folder"
        )
