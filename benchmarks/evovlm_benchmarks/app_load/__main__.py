"""Load test of the app: many visitors at once on one server; no request may be lost, and memory must stay flat.

    python -m evovlm_benchmarks.app_load --requests 50 --rounds 20 --out app-load.json
    python -m evovlm_benchmarks.app_load --hostile

Starts its own server on the zoo. Without `--hostile`, asks `--requests` questions at once, each in a new session, waits
for all, and repeats this `--rounds` times. With `--hostile`, five hostile clients try to disturb one visitor. The
server identifies visitors by address, so the machine must answer on all of 127.0.0.0/8, as Linux does.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.cli.console import ERR, OUT
from evovlm.cli.entry import run_command
from evovlm.cli.limits import MOST_ROUNDS
from evovlm.recipe.limits import MOST_ITEMS
from evovlm.system.version import hardware, versions
from evovlm_benchmarks.app_load.crowd import crowd
from evovlm_benchmarks.app_load.hostile import hostile
from evovlm_benchmarks.app_load.server import serving

SPOILT = 2.0  # a median wait of more than this times the undisturbed one counts as disturbed


def main(
    requests: Annotated[int, typer.Option(min=1, max=200, help="Questions asked at once.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Number of rounds.")] = 2,
    attacked: Annotated[
        bool, typer.Option("--hostile", help="Measure one visitor while hostile clients attack.")
    ] = False,
    questions: Annotated[
        int, typer.Option(min=1, max=MOST_ITEMS, help="With --hostile: the visitor's minimum number of questions.")
    ] = 40,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """Measure the app's server under load. Exit code 1 if a request is lost or the visitor is disturbed.

    \b
    Examples:
      python -m evovlm_benchmarks.app_load --requests 50 --rounds 20
      python -m evovlm_benchmarks.app_load --hostile
    """
    with tempfile.TemporaryDirectory(prefix="evovlm-load-") as folder, serving(Path(folder)) as server:
        figures = hostile(server, questions) if attacked else crowd(server, requests, rounds)
    OUT.print_json(json.dumps(figures, ensure_ascii=False))
    if out is not None:
        figures |= {"versions": versions(), "hardware": hardware("cpu")}
        out.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for reason, count in figures.get("reasons", {}).items():
        ERR.print(f"{count} lost: {reason}", markup=False)
    if figures.get("lost") or figures.get("other_answers") or (attacked and spoilt(figures)):
        raise typer.Exit(1)


def spoilt(figures: dict[str, Any]) -> bool:
    """Whether the visitor's median wait under attack exceeds `SPOILT` times the wait without attacks."""
    undisturbed = max(figures[when]["median_wait"] for when in ("alone", "after"))
    return bool(figures["attacked"]["median_wait"] > SPOILT * undisturbed)


if __name__ == "__main__":
    run_command(main)
