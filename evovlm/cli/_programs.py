"""`app` and `bench`: separate programs that replace this process. Knows only their names."""

from __future__ import annotations

import os
import sys

import typer


def open_app(context: typer.Context) -> None:
    """Start the web app with the zoo's models, at http://127.0.0.1:7860.

    Example: evovlm app --port 7861
    """
    # Replace this process, so that a stop signal reaches the server and no process is left behind. With -P, because
    # Python would otherwise import a random.py from the user's folder instead of its own.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evovlm_app", *context.args])


def open_bench(context: typer.Context) -> None:
    """Benchmark models on tasks, compare results, or score answers from another program.

    Example: evovlm bench run zoo
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", "evovlm_benchmarks", *context.args])
