"""Limits of options that have no key in a recipe, and a check for fractions. Knows typer."""

from __future__ import annotations

import math

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


def finite(value: float | None) -> float | None:
    """Refuse NaN, which passes every comparison with a minimum and a maximum. For an option's `callback`."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to calculate with")
    return value
