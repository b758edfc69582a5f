"""Export a study's log as an Optuna study, for optuna-dashboard and similar tools. Needs the extra evovlm[optuna].

Knows logs and Optuna; no models and no searches. Never reads from the Optuna study.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evovlm.report.data import StudyData, read_study
from evovlm.study.log import Trial, refuse_other_lengths
from evovlm.system.crash_log import without_passwords
from evovlm.system.errors import StudyError, UserError
from evovlm.system.faults import machine_fault

try:
    import optuna
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise UserError("Optuna is not installed; install it with: pip install 'evovlm[optuna]'") from error

MOST_SHOWN = 300  # characters of a database's own message


def export_optuna(study: Path, storage: str, name: str) -> int:
    """Write all trials of a study into a new Optuna study; returns the number of trials.

    `storage`: an Optuna URL such as sqlite:///optuna.db. Genes become parameters from 0 to 1 with their own names; a
    failed trial keeps its error; a trial evaluated only at lower fidelity is pruned, with its score as intermediate
    value. Raises StudyError if the storage already has a study of that name, or cannot be used.
    """
    data = read_study(study)
    header, trials = data.header, data.trials
    genes = _genes_of(data)
    refuse_other_lengths(study, trials, len(genes))
    objectives = max([1, *(len(trial.values) for trial in trials)])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _explained(storage):
        try:
            made = optuna.create_study(storage=storage, study_name=name, directions=["maximize"] * objectives)
        except optuna.exceptions.DuplicatedStudyError:
            place = without_passwords(storage)
            raise StudyError(f"{place} already has a study {name!r}; choose another name with --name") from None
        try:
            for key in ("recipe", "items", "versions"):
                made.set_user_attr(key, header.get(key))
            for trial in trials:
                made.add_trial(_as_optuna(trial, genes, objectives))
        except BaseException:
            with suppress(Exception):  # no part of a study is left behind where that can be helped
                optuna.delete_study(study_name=name, storage=storage)
            raise
    return len(trials)


def _genes_of(data: StudyData) -> list[str]:
    """The genes' names; numbers if the header is damaged and does not name them."""
    count = len(data.trials[0].genome) if data.trials else 0
    return list(data.header.get("genes") or (f"gene {number}" for number in range(count)))


def _as_optuna(trial: Trial, genes: list[str], objectives: int) -> Any:
    """A trial as Optuna keeps it, with as many values as there are objectives."""
    states = optuna.trial.TrialState
    values = list(trial.values or (trial.score,)) if trial.score is not None else []
    whole = trial.promoted and len(values) == objectives
    state = states.FAIL if trial.score is None else states.COMPLETE if whole else states.PRUNED
    own = {"digest": trial.digest, "generation": trial.generation, "error": trial.error, "seconds": trial.seconds}
    points = [min(1.0, max(0.0, point)) for point in trial.genome]
    return optuna.trial.create_trial(
        state=state,
        params=dict(zip(genes, points, strict=True)),
        distributions=dict.fromkeys(genes, optuna.distributions.FloatDistribution(0.0, 1.0)),
        values=values if state == states.COMPLETE else None,
        intermediate_values={0: trial.score} if state == states.PRUNED and trial.score is not None else {},
        user_attrs=own | {"standard error": trial.spread, "exact": trial.exact},
    )


@contextmanager
def _explained(storage: str) -> Iterator[None]:
    """Turn whatever Optuna and its databases raise about a storage into StudyError; passwords are not repeated."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every database and driver has exceptions of its own
        lacking = machine_fault(error)
        if lacking is not None:
            raise lacking from error
        said = without_passwords(next(iter(str(error).strip().splitlines()), ""))
        secret = storage.partition("://")[2].rpartition("@")[0].partition(":")[2]
        said = said.replace(secret, "(hidden)") if secret else said
        raise StudyError(
            f"--storage {without_passwords(storage)}: cannot be used ({type(error).__name__}: {said[:MOST_SHOWN]});"
            " give a URL such as sqlite:///optuna.db, and install the driver of another database"
        ) from None
