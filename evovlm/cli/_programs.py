"""`app` and `bench`: programs of their own, which take this one's place. Knows their names alone."""

from __future__ import annotations

import os
import sys

import typer


def open_app(context: typer.Context) -> None:
    """Open the app on the zoo, at http://127.0.0.1:7860.

    Example: evovlm app --port 7861
    """
    # In this process's place, so that a signal to stop reaches the server and none is left behind. With -P, because
    # Python would otherwise import a random.py of the user's folder instead of its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evovlm_app", *context.args])


def open_bench(context: typer.Context) -> None:
    """Benchmark models on tasks, compare results, score answers made elsewhere.

    Example: evovlm bench run zoo
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evovlm_benchmarks", *context.args])
