"""Limits of options that have no key in a recipe, and numbers with decimals. Knows typer."""

from __future__ import annotations

import math
from typing import Any

import typer

# Tensors merged at once, or processes started at once; no machine has as many cores.
MOST_THREADS = 1024
# Workers of a Ray cluster.
MOST_WORKERS = 4096
# Seconds that a candidate may take: a week. Larger numbers overflow the system's timers.
MOST_SECONDS = 604_800.0
# Gigabytes of a weights file or of memory.
MOST_GIGABYTES = 100_000.0
# Rounds, generations, seeds and similar counts of a benchmark.
MOST_ROUNDS = 10_000


def fraction(least: float, most: float) -> dict[str, Any]:
    """Settings of an option for a number with decimals: what reads it, and what --help shows of its range.

    typer's own ranges say of NaN that it is too large, or let it pass.
    """

    def read(value: str | float) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise typer.BadParameter(f"{value!r} is no number; give one from {least:g} to {most:g}")
        if not least <= number <= most:
            raise typer.BadParameter(f"{value} is out of range; give a number from {least:g} to {most:g}")
        return number

    return {"parser": read, "metavar": f"FLOAT [{least:g} to {most:g}]"}
