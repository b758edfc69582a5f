"""`recipe`: check and convert recipes. Knows typer."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evovlm.cli.options import AsJson, Download, RecipeArgument
from evovlm.system.errors import UserError

recipe_app = typer.Typer(help="Check, show and convert recipes.", no_args_is_help=True)


@recipe_app.command("check")
def recipe_check(recipe: RecipeArgument, download: Download = False, as_json: AsJson = False) -> None:
    """Say what fits and what does not, before any work: shapes, vocabularies, configs, disk, memory.

    Example: evovlm recipe check recipes/zoo-vlm.yaml
    """
    from evovlm.cli.console import ERR, OUT, findings_table
    from evovlm.merging.assembly import open_models
    from evovlm.merging.check import check_recipe
    from evovlm.recipe.yaml_file import read_recipe

    loaded = read_recipe(recipe)
    base, sources = open_models(loaded, recipe.parent, download=download)
    findings = check_recipe(loaded, base, list(sources.values()))
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        print(json.dumps({"digest": loaded.digest(), "fits": not failed, "findings": [vars(f) for f in findings]}))
    else:
        OUT.print(f"{recipe}: {loaded.kind}, {loaded.method}, digest {loaded.digest()}")
        OUT.print(findings_table(findings))
        (ERR if failed else OUT).print("[red]does not fit[/red]" if failed else "[green]fits[/green]")
    if failed:
        raise typer.Exit(2)


@recipe_app.command("convert")
def recipe_convert(
    recipe: RecipeArgument,
    to: Annotated[str, typer.Option(help="mergekit or evovlm.")] = "mergekit",
) -> None:
    """Print a recipe as mergekit's YAML, or mergekit's as ours.

    Examples:
      evovlm recipe convert recipes/zoo-llm.yaml --to mergekit
      evovlm recipe convert their-merge.yml --to evovlm > ours.yaml
    """
    from evovlm.recipe.mergekit import write_mergekit
    from evovlm.recipe.yaml_file import read_recipe, recipe_text

    writers = {"mergekit": write_mergekit, "evovlm": recipe_text}
    if to not in writers:
        raise UserError(f"--to: unknown format {to!r}; choose from {sorted(writers)}")
    print(writers[to](read_recipe(recipe)), end="")
