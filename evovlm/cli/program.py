"""The command line: all commands together; errors become exit codes.

Exit codes: 0 success, 2 user error (with a one-sentence message), 130 interrupted. Each command has its own module and
does its heavy imports inside the function, so that --help is fast.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from evovlm.cli._programs import open_app, open_bench
from evovlm.cli.convert import convert
from evovlm.cli.doctor import doctor
from evovlm.cli.evaluate import evaluate
from evovlm.cli.evolve import evolve
from evovlm.cli.merge import merge
from evovlm.cli.recipe import recipe_app
from evovlm.cli.study import export, report
from evovlm.cli.suggest import suggest
from evovlm.cli.zoo import zoo_app
from evovlm.system.errors import UserError
from evovlm.system.plugins import load_plugins

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


for command in (merge, evolve, evaluate, suggest, report, export, convert, doctor):
    app.command()(command)
# These programs parse all their arguments themselves, including --help.
passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
for name, program in (("app", open_app), ("bench", open_bench)):
    app.command(name, add_help_option=False, context_settings=passed_on)(program)

# Disk errors that are not bugs: disk full, over quota, read-only, permission denied, or a wrong path.
DISK_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line with `arguments`; None: the process's own arguments.

    A user error prints one sentence and exits with code 2, never with a traceback.
    """
    from rich.console import Console
    from rich.text import Text

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Must be set before torch loads: with spinning threads, runs take ten times as long if other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        load_plugins()
        app(args=arguments)
    except UserError as error:
        errors.print(Text.assemble(("error: ", "red"), str(error)))
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        errors.print(Text.assemble(("error: ", "red"), f"{error.filename or 'disk'}: {error.strerror}"))
        sys.exit(2)
    except (FloatingPointError, MemoryError) as error:
        errors.print(Text.assemble(("error: ", "red"), str(error) or "not enough memory; lower --batch or --items"))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        if stop.code == 130:
            errors.print("interrupted; no partial files were left, run the same command to resume", style="yellow")
        raise
