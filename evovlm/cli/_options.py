"""Arguments and options that several commands share. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evovlm.recipe.schema import Recipe

RecipeArgument = Annotated[
    Path, typer.Argument(help="Recipe: a YAML file (ours or mergekit's), or a name from `evovlm recipe list`.")
]
StudyArgument = Annotated[Path, typer.Argument(help="Folder of the study.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch hub models that are not in the local cache.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")]
SelfCheck = Annotated[
    bool,
    typer.Option("--self-check/--no-self-check", help="When loading a model, compare its logits with transformers'."),
]
Vlms = Annotated[
    str | None,
    typer.Option(
        "--vlms",
        help="If a mergekit file merges vision-language models of one family: `tower` merges their language towers and"
        " takes the vision part from the first (or the one of the tokenizer), `whole` merges every tensor.",
    ),
]
Device = Annotated[str, typer.Option(help="Device to run models on: cpu, cuda, cuda:1, or auto (a GPU if one works).")]


def recipe_for(named: Path, vlms: str | None) -> Recipe:
    """The recipe that an argument names, read for vision-language models if `--vlms` says so."""
    from evovlm.recipe.shipped import named_recipe
    from evovlm.recipe.vlms import as_vlms

    recipe = named_recipe(named)
    return recipe if vlms is None else as_vlms(recipe, vlms)
