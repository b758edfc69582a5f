"""Scaling benchmarks: `python -m evovlm_benchmarks.scaling simulate`, `... throughput`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evovlm.study import log as study_log
from evovlm.system.errors import UserError
from evovlm_benchmarks.scaling.simulate import simulate

RECORDED = Path(__file__).parent / "durations.json"
SIZES = (1, 2, 4, 8, 16, 32, 64)
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("simulate")
def simulate_command(
    study: Annotated[Path | None, typer.Option(help="Take candidates' durations from this study's log.")] = None,
    trials: Annotated[int, typer.Option(min=64, help="Candidates per simulation.")] = 3000,
) -> None:
    """Simulate the scheduler with 1 to 64 workers; print one JSON line each.

    Example: python -m evovlm_benchmarks.scaling simulate --study runs/llm
    """
    durations = durations_of(study) if study else json.loads(RECORDED.read_text(encoding="utf-8"))["seconds"]
    for workers in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            found = simulate(Path(folder) / "study", workers, durations, trials)
        print(json.dumps(asdict(found)), flush=True)


@app.command("throughput")
def throughput_command(
    recipe: Annotated[str, typer.Option(help="A recipe with a search: a file or a shipped name.")] = "zoo-llm",
    workers: Annotated[int, typer.Option(min=2, help="Number of workers to compare with one.")] = 2,
    items: Annotated[int, typer.Option(min=1, help="Search items.")] = 150,
    trials: Annotated[int, typer.Option(min=4, help="Candidates to time.")] = 40,
) -> None:
    """Measure candidates per second with one and with several single-threaded CPU workers on this machine.

    Example: OMP_NUM_THREADS=1 python -m evovlm_benchmarks.scaling throughput
    """
    from evovlm_benchmarks.scaling.throughput import measure

    rates = {}
    for count in (1, workers):
        with tempfile.TemporaryDirectory() as folder:
            found = measure(recipe, Path(folder) / "study", count, items=items, trials=trials)
        rates[count] = found.rate
        print(json.dumps(asdict(found) | {"rate": round(found.rate, 3)}), flush=True)
    print(json.dumps({"speedup": round(rates[workers] / rates[1], 3)}))


def durations_of(folder: Path) -> list[float]:
    """Seconds per candidate, from a study's log. Raises UserError if no trial has a duration."""
    found = [sum(trial.seconds.values()) for trial in study_log.read_trials(folder) if trial.seconds]
    if not found:
        raise UserError(f"{folder}: no trial with a duration; give a study that has run")
    return found


if __name__ == "__main__":
    app()
