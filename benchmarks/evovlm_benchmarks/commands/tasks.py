"""`tasks`: list tasks, presets and suites. Knows typer."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def tasks(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False) -> None:
    """List the tasks with their splits and presets, and the shipped suites.

    Example: evovlm bench tasks
    """
    from evovlm.cli.console import OUT
    from evovlm.tasks import TASKS, load_task, presets_of
    from evovlm_benchmarks.runner.suite import shipped_suites
    from evovlm_benchmarks.runner.tables import Sheet, print_sheet

    found = {
        name: {
            "splits": list(load_task(name).splits),
            "test": list(load_task(name).test_splits),
            "presets": presets_of(name),
        }
        for name in TASKS
    }
    if as_json:
        print(json.dumps({"tasks": found, "suites": [*shipped_suites()]}, ensure_ascii=False))
        return
    rows = tuple((name, ", ".join(row["splits"]), ", ".join(row["presets"])) for name, row in found.items())
    print_sheet(OUT, Sheet("Tasks", ("task", "splits", "presets (the first is the default)"), rows, words=3))
    OUT.print(f"suites: {', '.join(shipped_suites())}")
