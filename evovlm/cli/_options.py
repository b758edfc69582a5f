"""Arguments and options that several commands share. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[
    Path, typer.Argument(help="A recipe: a YAML file (ours or mergekit's), or a name from `evovlm recipe list`.")
]
StudyArgument = Annotated[Path, typer.Argument(help="A study's folder.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch hub models that are not in the local cache.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Device = Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1.")]
