"""The raced study: one generation at a time, its candidates raced against each other.

Knows a rank-based searcher, a racer and the study's files; no models. With `centers` (few items per candidate), each
generation's center is also evaluated and logged (`told` false): with noisy scores, the center of a search is
a better choice than its best-scoring candidate (Hansen et al., 2009, on CMA-ES under uncertainty). After a restart the
generations are raced again, with answers from the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from evovlm.evaluators.racer import RacedEvaluation, Racer
from evovlm.search import Genome, Searcher
from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.study.loop import Candidate, OnTrial, run_generations
from evovlm.study.study import Study
from evovlm.system.errors import StudyError


def run_raced(
    study: Study,
    searcher: Searcher,
    racer: Racer,
    trials: int,
    on_trial: OnTrial,
    *,
    centers: bool = True,
    auto: bool = False,
) -> None:
    """Search until the log has `trials` trials, including centers; the last generation is raced completely.

    If all of a generation was evaluated cheaply and in full, the rank agreement of both is logged as an event. auto:
    that agreement decides whether the next generations are evaluated cheaply first, and a sentence says so. Raises
    StudyError if the log has other genomes or scores than this search produces.
    """

    def candidates(generation: int, genomes: list[Genome], known: bool) -> Iterator[Candidate]:
        center: Genome = tuple(sum(genes) / len(genomes) for genes in zip(*genomes, strict=True))
        middle = study.candidate(center) if centers else None
        outcomes = racer(generation, [study.candidate(genome) for genome in genomes], middle)
        if not known:
            _tell_audit(study, generation, racer, auto=auto)
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


def _tell_audit(study: Study, generation: int, racer: Racer, *, auto: bool) -> None:
    """Log how well cheap scores ranked a whole generation, if it has both; with `auto` also say what follows."""
    audit = racer.audit
    if audit is None:
        return
    figures = {"tau": round(audit.tau, 3), "candidates": audit.candidates}
    if audit.candidates > 1:
        study_log.log_event(study.folder, "rank agreement", generation=generation, **figures)
    if not auto:
        return
    then = "cheap answers come first" if racer.cheap_first else "all candidates are answered in full from now on"
    told = f"generation {generation}: {audit.in_words}: {then}"
    more = {"p_value": round(audit.p_value, 4), "place": audit.place, "promoted": audit.promoted}
    study_log.log_event(
        study.folder, "audit", generation=generation, cheap_first=racer.cheap_first, **figures, **more, told=told
    )
    study.say(told)


def _refuse_other_score(study: Study, outcome: RacedEvaluation | str, trial: Trial) -> None:
    known = trial.score
    if not isinstance(outcome, str) and known is not None and abs(known - outcome.score) > 1e-9:
        raise StudyError(
            f"{study.folder}: trial {trial.trial} scored {known}, but now {outcome.score}: its cached answers are"
            " missing and this machine gives other answers; start a new study in another folder"
        )
