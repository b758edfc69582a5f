"""`python -m benchmarks.speed`: the command `speed` alone, for machines without the other benchmarks' packages."""

from __future__ import annotations

import typer

from benchmarks.speed.command import speed

if __name__ == "__main__":
    typer.run(speed)
