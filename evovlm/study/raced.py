"""The raced study: one generation at a time, its candidates raced against each other.

Knows a rank-based searcher, a racer and the study's files; no models. With `centers` (few items per candidate), each
generation's center is also evaluated and logged (`told` false): with noisy scores, the center of a search is
a better choice than its best-scoring candidate (Hansen et al., 2009, on CMA-ES under uncertainty). After a restart the
generations are raced again, with answers from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from evovlm.evaluators.racer import RacedEvaluation
from evovlm.recipe.schema import Recipe
from evovlm.search import Genome, Searcher
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.loop import Candidate, OnTrial, run_generations
from evovlm.study.study import Study
from evovlm.system.errors import StudyError
from evovlm.system.statistics import rank_agreement

RaceGeneration = Callable[[int, Sequence[Recipe], Recipe | None], Sequence[RacedEvaluation | str]]


def run_raced(
    study: Study, searcher: Searcher, race: RaceGeneration, trials: int, on_trial: OnTrial, *, centers: bool = True
) -> None:
    """Search until the log has `trials` trials, including centers; the last generation is raced completely.

    If all of a generation was evaluated cheaply and in full, the rank agreement of both is logged as an event. Raises
    StudyError if the log has other genomes or scores than this search produces.
    """

    def candidates(generation: int, genomes: list[Genome], known: bool) -> Iterator[Candidate]:
        center: Genome = tuple(sum(genes) / len(genomes) for genes in zip(*genomes, strict=True))
        middle = study.candidate(center) if centers else None
        outcomes = race(generation, [study.candidate(genome) for genome in genomes], middle)
        if not known:
            _tell_agreement(study, generation, outcomes[: len(genomes)])
        # Without a center there is one more genome than outcomes.
        for place, (genome, outcome) in enumerate(zip([*genomes, center], outcomes, strict=False)):
            told = place < len(genomes)
            log = partial(_add, study, generation, genome, outcome, told=told)
            yield Candidate(genome, log, partial(_refuse_other_score, study, outcome), told)

    run_generations(study, searcher, candidates, trials, on_trial)


def _add(study: Study, generation: int, genome: Genome, outcome: RacedEvaluation | str, *, told: bool) -> Trial:
    if isinstance(outcome, str):
        return study.add(generation, genome, outcome, told=told)
    return study.add(
        generation,
        genome,
        outcome,
        told=told,
        seen=outcome.seen,
        cheap=outcome.cheap,
        promoted=outcome.promoted,
    )


def _tell_agreement(study: Study, generation: int, outcomes: Sequence[RacedEvaluation | str]) -> None:
    """Log the rank agreement of cheap and full scores (Kendall's tau), if the whole generation has both."""
    scored = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    pairs = [(outcome.cheap, outcome.score) for outcome in scored if outcome.cheap is not None and outcome.promoted]
    if len(pairs) < 2 or len(pairs) < len(scored):
        return
    tau = rank_agreement([cheap for cheap, _ in pairs], [full for _, full in pairs])
    study_log.log_event(study.folder, "rank agreement", generation=generation, tau=round(tau, 3), candidates=len(pairs))


def _refuse_other_score(study: Study, outcome: RacedEvaluation | str, trial: Trial) -> None:
    known = trial.score
    if not isinstance(outcome, str) and known is not None and abs(known - outcome.score) > 1e-9:
        raise StudyError(
            f"{study.folder}: trial {trial.trial} scored {known}, but now {outcome.score}: its cached answers are"
            " missing and this machine gives other answers; start a new study in another folder"
        )
