"""Export a study's log as an Optuna study, for optuna-dashboard and similar tools. Needs the extra evovlm[optuna].

Knows logs and Optuna; no models and no searches. Never reads from the Optuna study.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.report.data import read_study
from evovlm.system.errors import StudyError, UserError

try:
    import optuna
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise UserError("Optuna is not installed; install it with: pip install 'evovlm[optuna]'") from error


def export_optuna(study: Path, storage: str, name: str) -> int:
    """Write all trials of a study into a new Optuna study; returns the number of trials.

    `storage`: an Optuna URL such as sqlite:///optuna.db. Genes become parameters from 0 to 1 with their own names; a
    failed trial keeps its error; a trial evaluated only at lower fidelity is pruned, with its score as intermediate
    value. Raises StudyError if the storage already has a study of that name.
    """
    data = read_study(study)
    header, trials = data.header, data.trials
    # A damaged header may not name the genes.
    genes = list(header.get("genes") or (f"gene {number}" for number in range(len(trials[0].genome) if trials else 0)))
    uniform = optuna.distributions.FloatDistribution(0.0, 1.0)
    objectives = max([1, *(len(trial.values) for trial in trials)])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        made = optuna.create_study(storage=storage, study_name=name, directions=["maximize"] * objectives)
    except optuna.exceptions.DuplicatedStudyError:
        raise StudyError(f"{storage} already has a study {name!r}; choose another name with --name") from None
    for key in ("recipe", "items", "versions"):
        made.set_user_attr(key, header.get(key))
    for trial in trials:
        states = optuna.trial.TrialState
        state = states.FAIL if trial.score is None else states.COMPLETE if trial.promoted else states.PRUNED
        own = {"digest": trial.digest, "generation": trial.generation, "error": trial.error, "seconds": trial.seconds}
        made.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=dict(zip(genes, trial.genome, strict=True)),
                distributions=dict.fromkeys(genes, uniform),
                values=list(trial.values or (trial.score,)) if state == states.COMPLETE else None,
                intermediate_values={0: trial.score} if state == states.PRUNED else {},
                user_attrs=own | {"standard error": trial.spread, "exact": trial.exact},
            )
        )
    return len(trials)
