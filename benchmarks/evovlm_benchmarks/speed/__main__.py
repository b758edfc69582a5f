"""`python -m evovlm_benchmarks.speed`: only `speed`, for machines without the other benchmarks' packages."""

from __future__ import annotations

from evovlm.cli.entry import run_command
from evovlm_benchmarks.speed.command import speed

if __name__ == "__main__":
    run_command(speed)
