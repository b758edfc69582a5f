"""`report` and `export`: what a study's folder is turned into. Knows typer."""

from __future__ import annotations

from typing import Annotated

import typer

from evovlm.cli._options import StudyArgument


def report(study: StudyArgument) -> None:
    """Write one self-contained HTML page about a study.

    Example: evovlm report runs/demo
    """
    from evovlm.report import write_report

    print(write_report(study))


def export(
    study: StudyArgument,
    storage: Annotated[str, typer.Option(help="An Optuna storage, such as sqlite:///optuna.db.")],
    name: Annotated[str | None, typer.Option(help="The Optuna study's name; the folder's otherwise.")] = None,
) -> None:
    """Write a study's log into an Optuna storage, for optuna-dashboard. Needs the extra `optuna`.

    Example: evovlm export runs/demo --storage sqlite:///optuna.db
    """
    from evovlm.report.optuna_export import export_optuna

    count = export_optuna(study, storage, name or study.resolve().name)
    print(f"{storage}: {count} trials")
