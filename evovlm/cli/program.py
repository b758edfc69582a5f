"""The command line: all commands together.

Each command has its own module and does its heavy imports inside the function, so that --help is fast. `entry` turns
errors into exit codes.
"""

from __future__ import annotations

from typing import Annotated

import typer

from evovlm.cli._programs import open_app, open_bench
from evovlm.cli.convert import convert
from evovlm.cli.doctor import doctor
from evovlm.cli.entry import run
from evovlm.cli.evaluate import evaluate
from evovlm.cli.evolve import evolve
from evovlm.cli.merge import merge
from evovlm.cli.methods import methods
from evovlm.cli.recipe import recipe_app
from evovlm.cli.study import export, report
from evovlm.cli.suggest import suggest
from evovlm.cli.zoo import zoo_app

app = typer.Typer(
    help="Breed new models out of existing ones: merge recipes found by evolution, no training.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(zoo_app, name="zoo")
app.add_typer(recipe_app, name="recipe")


def print_version(wanted: bool) -> None:
    """Print evovlm's version and the commit of its code."""
    if wanted:
        from evovlm.system.version import VERSION, commit

        print(f"evovlm {VERSION} ({commit()})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in (merge, evolve, evaluate, suggest, methods, report, export, convert, doctor):
    app.command()(command)
# These programs parse all their arguments themselves, including --help.
passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
for name, program in (("app", open_app), ("bench", open_bench)):
    app.command(name, add_help_option=False, context_settings=passed_on)(program)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with `arguments`; None: the process's own arguments.

    A user error prints one sentence and exits with code 2. There is never a traceback; see `entry` for the codes.
    """
    run(app, arguments)
