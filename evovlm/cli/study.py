"""`report` and `export`: turn a study's folder into a page or an Optuna study. Knows typer."""

from __future__ import annotations

from typing import Annotated

import typer

from evovlm.cli._options import StudyArgument


def report(study: StudyArgument) -> None:
    """Write one self-contained HTML page about a study.

    Example: evovlm report runs/demo
    """
    from evovlm.cli.console import note
    from evovlm.cli.progress import waiting

    with waiting("writing the report"):
        from evovlm.report import write_report

        page = write_report(study, note)
    print(page)


def export(
    study: StudyArgument,
    storage: Annotated[str, typer.Option(help="URL of an Optuna storage, such as sqlite:///optuna.db.")],
    name: Annotated[str | None, typer.Option(help="Name of the Optuna study. Default: the folder's name.")] = None,
) -> None:
    """Export a study's log to an Optuna storage, for optuna-dashboard. Needs the extra `optuna`.

    Example: evovlm export runs/demo --storage sqlite:///optuna.db
    """
    from evovlm.report.optuna_export import export_optuna
    from evovlm.system.crash_log import without_passwords

    count = export_optuna(study, storage, name or study.resolve().name)
    print(f"{without_passwords(storage)}: {count} trials")
