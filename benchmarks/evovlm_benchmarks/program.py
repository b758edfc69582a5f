"""The benchmark command line: `evovlm bench`. Each command is in its own module."""

from __future__ import annotations

import typer

from evovlm.cli.entry import run as run_app
from evovlm_benchmarks.commands.compare import compare
from evovlm_benchmarks.commands.leaderboard import leaderboard
from evovlm_benchmarks.commands.lmeh import lmeh
from evovlm_benchmarks.commands.overlap import overlap
from evovlm_benchmarks.commands.run import run
from evovlm_benchmarks.commands.score import score
from evovlm_benchmarks.commands.show import show
from evovlm_benchmarks.commands.tasks import tasks
from evovlm_benchmarks.rehearsal.command import rehearse
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
for command in (run, compare, show, score, leaderboard, overlap, tasks, lmeh, study, speed, rehearse):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (default: the process's arguments). A user error prints one sentence and exits with 2."""
    run_app(app, arguments, name="evovlm bench")
