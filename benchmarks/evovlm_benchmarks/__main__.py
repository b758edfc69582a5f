"""The benchmark command line: `evovlm bench`. Each command is in its own module."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.text import Text

from evovlm.system.errors import UserError
from evovlm.system.plugins import load_plugins
from evovlm_benchmarks.commands.compare import compare
from evovlm_benchmarks.commands.leaderboard import leaderboard
from evovlm_benchmarks.commands.lmeh import lmeh
from evovlm_benchmarks.commands.overlap import overlap
from evovlm_benchmarks.commands.run import run
from evovlm_benchmarks.commands.score import score
from evovlm_benchmarks.commands.show import show
from evovlm_benchmarks.commands.tasks import tasks
from evovlm_benchmarks.speed.command import speed
from evovlm_benchmarks.studies.command import study

app = typer.Typer(
    help="Benchmarks: run models on tasks, compare results, score answers, study searches, measure speed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, compare, show, score, leaderboard, overlap, tasks, lmeh, study, speed):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (default: the process's arguments). A user error prints one sentence and exits with 2."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        load_plugins()
        app(args=arguments, prog_name="evovlm bench")
    except UserError as error:
        errors.print(Text.assemble(("error: ", "red"), str(error)))
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:
            errors.print("interrupted; run the same command again to resume", style="yellow")
        raise


if __name__ == "__main__":
    main()
