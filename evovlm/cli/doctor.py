"""`doctor`: what this machine and installation have, and what will not work. Knows typer."""

from __future__ import annotations

import json

import typer

from evovlm.cli._options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Check versions, GPU, extras, dictionary, caches and the machine: what will not work, why, and what to do.

    Opens no connection. Exit code 0, or 2 if something essential is broken.

    Example: evovlm doctor
    """
    from evovlm.cli._diagnosis import diagnose
    from evovlm.cli.console import ERR, OUT, doctor_table
    from evovlm.cli.progress import waiting

    with waiting("checking the installation"):
        findings = diagnose()
    broken = [finding for finding in findings if finding.level == "error"]
    if as_json:
        print(json.dumps({"works": not broken, "findings": [vars(finding) for finding in findings]}))
    else:
        OUT.print(doctor_table(findings))
        if broken:
            ERR.print(f"broken: {', '.join(finding.name for finding in broken)}", style="red", markup=False)
    if broken:
        raise typer.Exit(2)
