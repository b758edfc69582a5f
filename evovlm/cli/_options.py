"""Arguments and options that several commands share. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Device = Annotated[str, typer.Option(help="Device to run models on: cpu, cuda or cuda:1.")]
