"""`methods`: list the merge methods, or describe one. Knows typer."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evovlm.cli._options import AsJson


def methods(
    name: Annotated[str | None, typer.Argument(help="Describe this method alone, with its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the merge methods, those of plugins among them, with their needs and options; or describe one.

    \b
    Examples:
      evovlm methods
      evovlm methods della
      evovlm methods --json
    """
    from evovlm.cli.console import OUT, method_table, methods_table
    from evovlm.cli.progress import waiting

    with waiting("starting"):
        from evovlm.methods.description import described
        from evovlm.methods.table import METHODS, find_method

    if name is not None:
        row = find_method(name)
        if as_json:
            print(json.dumps(described(row), ensure_ascii=False))
        else:
            OUT.print(method_table(row))
    elif as_json:
        print(json.dumps([described(row) for row in METHODS.values()], ensure_ascii=False))
    else:
        OUT.print(methods_table(list(METHODS.values())))
