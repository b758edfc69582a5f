"""`recipe`: list, show, check, convert and pin recipes. Knows typer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evovlm.cli._options import AsJson, Download, RecipeArgument, Vlms, recipe_for
from evovlm.system.errors import UserError

if TYPE_CHECKING:
    from evovlm.merging.check import Finding
    from evovlm.models.open_model import OpenModel
    from evovlm.recipe.schema import Recipe

recipe_app = typer.Typer(help="List, show, check, convert and pin recipes.", no_args_is_help=True)


@recipe_app.command("list")
def recipe_list(as_json: AsJson = False) -> None:
    """List the recipes shipped with evovlm; every command that takes a recipe accepts these names.

    Example: evovlm recipe list
    """
    from evovlm.cli.console import OUT, recipes_table
    from evovlm.recipe.shipped import shipped_recipes
    from evovlm.recipe.yaml_file import first_words, read_recipe

    rows = [
        {"name": name, "kind": recipe.kind, "method": recipe.method, "about": first_words(path), "path": str(path)}
        for name, path in shipped_recipes().items()
        for recipe in [read_recipe(path)]
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        OUT.print(recipes_table(rows))


@recipe_app.command("show")
def recipe_show(recipe: RecipeArgument) -> None:
    """Print a recipe file with its comments, as a starting point for your own.

    Example: evovlm recipe show zoo-vlm > mine.yaml
    """
    from evovlm.recipe.limits import MOST_BYTES
    from evovlm.recipe.shipped import find_file, shipped_recipes
    from evovlm.system.bounded_files import read_text

    print(read_text(find_file(recipe, shipped_recipes(), "recipe"), MOST_BYTES), end="")


@recipe_app.command("check")
def recipe_check(
    recipe: RecipeArgument,
    download: Download = False,
    as_json: AsJson = False,
    ask: Annotated[
        bool,
        typer.Option("--ask/--no-ask", help="Also find out whether each model can be asked, and how fast (seconds)."),
    ] = True,
    vlms: Vlms = None,
) -> None:
    """Check a recipe before a merge or search: shapes, vocabularies, configs, disk space, memory.

    For each model it says whether it can be merged, and whether it can be asked: by the fast path, by transformers' own
    layers (slower), or not at all. Models of up to 200 MB are asked a few short questions, and their speed is measured;
    of larger ones a cut-down copy with random weights is tried, so that no large model is loaded.

    \b
    Examples:
      evovlm recipe check zoo-vlm
      evovlm recipe check mine.yaml --no-ask --json
    """
    from evovlm.cli._asking import ask_models, unaskable
    from evovlm.cli.console import ERR, OUT, findings_table, models_table
    from evovlm.cli.progress import waiting
    from evovlm.merging.assembly import open_models, owner_of
    from evovlm.merging.check import check_recipe

    loaded = recipe_for(recipe, vlms)
    with waiting("checking recipe and models"):
        base, sources = open_models(loaded, loaded.root, download=download)
        findings = check_recipe(loaded, base, list(sources.values()))
    owner = owner_of(loaded, base, sources)
    findings += [*_of_search(loaded, owner.folder), *_idle_fidelity(loaded, owner)]
    models = [*([base] if base is not None else []), *sources.values()]
    rows = ask_models(loaded, models, findings, ask=ask, tell=lambda text: ERR.print(text, style="dim"))
    findings += unaskable(loaded, rows)
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        told = {"digest": loaded.digest(), "fits": not failed, "findings": [vars(f) for f in findings]}
        print(json.dumps(told | {"models": [vars(row) for row in rows]}))
    else:
        OUT.print(f"{recipe}: {loaded.kind}, {loaded.method}, digest {loaded.digest()}")
        OUT.print(findings_table(findings))
        OUT.print(models_table(rows))
        console, words, colour = (ERR, "does not fit", "red") if failed else (OUT, "fits", "green")
        console.print(words, style=colour)
    if failed:
        raise typer.Exit(2)


def _of_search(recipe: Recipe, owner: Path) -> list[Finding]:
    """What a search by the recipe would refuse: of its settings, its objectives and its data. owner: its folder."""
    from evovlm.evaluators.objectives import unknown_objectives
    from evovlm.merging.check import Finding
    from evovlm.search import check_search
    from evovlm.search.space.parameters import unfit_options
    from evovlm.tasks.item_sets import unknown_data, why_not_in_chat

    findings = []
    second = None if recipe.then is None else recipe.then.search
    for key, search in (("search", recipe.search), ("then.search", second)):
        if search is None:
            continue
        for misfit in check_search(search):
            findings.append(Finding("error" if misfit.fatal else "note", f"{key}.{misfit.key}", misfit.text))
        findings += [Finding("error", f"{key}.objectives", text) for text in unknown_objectives(search.objectives)]
    findings += [Finding("error", key, text) for key, text in unfit_options(recipe)]
    found = list(unknown_data(recipe, recipe.root))
    if not any(fatal for *_, fatal in found) and (why := why_not_in_chat(recipe, recipe.root, owner)) is not None:
        found.append((*why, True))
    return findings + [Finding("error" if fatal else "note", key, text) for key, text, fatal in found]


def _idle_fidelity(recipe: Recipe, owner: OpenModel) -> Iterator[Finding]:
    """Settings of the lower fidelity that make no answer cheaper; nothing if the data is not known."""
    from evovlm.merging.check import Finding
    from evovlm.models.families import has_tiles
    from evovlm.tasks import Options, parse_split
    from evovlm.tasks.cheaper import idle_in_words

    second = None if recipe.then is None else recipe.then.search
    for key, search in (("search", recipe.search), ("then.search", second)):
        fidelity = None if search is None else search.fidelity
        if fidelity is None or recipe.data is None or (fidelity.auto and not fidelity.cheaper):
            continue
        try:
            task, _ = parse_split(recipe.data.search, Options(preset=recipe.data.preset), recipe.root)
        except UserError:  # reported as what is wrong with the data
            return
        idle = idle_in_words(fidelity, task.generation, tiles=has_tiles(recipe.kind, owner.config))
        if idle:
            yield Finding("warning", f"{key}.fidelity", idle)


@recipe_app.command("convert")
def recipe_convert(
    recipe: RecipeArgument,
    to: Annotated[str, typer.Option(help="Output format: mergekit or evovlm.")] = "mergekit",
    vlms: Vlms = None,
) -> None:
    """Convert a recipe to mergekit's YAML, or a mergekit recipe to ours, and print it.

    Examples:
      evovlm recipe convert zoo-llm --to mergekit
      evovlm recipe convert their-merge.yml --to evovlm > ours.yaml
    """
    from evovlm.recipe.mergekit import write_mergekit
    from evovlm.recipe.yaml_file import recipe_text

    writers = {"mergekit": write_mergekit, "evovlm": recipe_text}
    if to not in writers:
        raise UserError(f"--to: unknown format {to!r}; choose from {sorted(writers)}")
    print(writers[to](recipe_for(recipe, vlms)), end="")


@recipe_app.command("pin")
def recipe_pin(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. Default: print it; relative paths are kept.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Fix the revision of every model and data set from the hub to the commit that the local cache holds.

    Nothing is downloaded. The file's comments and layout are kept. What could not be pinned is reported on standard
    error.

    \b
    Examples:
      evovlm recipe pin evovlm-jp --out pinned.yaml
      evovlm recipe pin mine.yaml --out mine.yaml --force
    """
    from evovlm.cli.console import ERR
    from evovlm.evolution.pin import pin_to_cache
    from evovlm.recipe.edit import edited_text
    from evovlm.recipe.limits import MOST_BYTES
    from evovlm.recipe.shipped import find_file, named_recipe, shipped_recipes
    from evovlm.recipe.yaml_file import moved
    from evovlm.system.bounded_files import read_text
    from evovlm.system.files import write_text

    loaded = named_recipe(recipe)
    if out is not None and out.exists() and not (force and out.is_file()):
        what = "exists; overwrite it with --force, or" if out.is_file() else "is not a file;"
        raise UserError(f"{out}: {what} choose another file with --out")
    before = read_text(find_file(recipe, shipped_recipes(), "recipe"), MOST_BYTES)
    exact, pins = pin_to_cache(loaded, loaded.root)
    if out is None:
        print(edited_text(before, loaded, exact), end="")
    else:
        write_text(out, edited_text(before, loaded, moved(exact, loaded.root, out.absolute().parent)))
    told = [f"pinned: {key}: {commit}" for key, commit in pins.commits.items()]
    for line in [*told, *(f"not pinned: {key}: {reason}" for key, reason in pins.left.items())]:
        ERR.print(line, markup=False, soft_wrap=True)
