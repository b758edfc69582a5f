"""The options of `bench run`, one per line of its --help. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli.limits import MOST_WORKERS
from evovlm.cli.paths import new_folder
from evovlm.recipe.limits import MOST_BATCH, MOST_ITEMS, MOST_SEED

Suite = Annotated[str | None, typer.Argument(help="zoo, zoo-medium, evovlm-jp, evollm-jp, or a .yaml file.")]
Out = Annotated[Path, typer.Option(callback=new_folder, help="Folder for the results; a rerun resumes.")]
Model = Annotated[list[str] | None, typer.Option(help="MODEL or NAME=MODEL, added to the suite's, if any.")]
Task = Annotated[list[str] | None, typer.Option(help="TASK:SPLIT or TASK@PATH:SPLIT; replaces the suite's.")]
Preset = Annotated[str | None, typer.Option(help="Prompt and scoring preset; replaces the suite's.")]
Only = Annotated[list[str] | None, typer.Option(help="Run only this model or task of the suite; repeatable.")]
Skip = Annotated[list[str] | None, typer.Option(help="Leave out this model or task; repeatable.")]
Items = Annotated[int | None, typer.Option(min=1, max=MOST_ITEMS, help="Questions per task; default: all.")]
Seed = Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Seed for the choice of questions.")]
Batch = Annotated[int | None, typer.Option(min=1, max=MOST_BATCH, help="Batch size; default: by free memory.")]
Scoring = Annotated[str | None, typer.Option(help="How numbers are read: compatible or corrected.")]
Lid = Annotated[Path | None, typer.Option(help="fastText's lid.176 file; detects Japanese as in the paper.")]
Device = Annotated[str, typer.Option(help="Where to run: cpu, cuda, cuda:1, or auto: a GPU if one works.")]
Download = Annotated[bool, typer.Option("--download", help="Download missing models and data.")]
Ray = Annotated[str | None, typer.Option(help="Run on a Ray cluster: auto, or its address.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_WORKERS, help="With --ray: number of workers; default: one per GPU or core."),
]
SelfCheck = Annotated[
    bool,
    typer.Option("--self-check/--no-self-check", help="Compare each model's logits with transformers' first."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be asked, estimate time, memory and disk, and stop.")
]
Measure = Annotated[
    bool | None,
    typer.Option(
        "--measure/--no-measure",
        help="With --dry-run: load the models and measure a few questions, or estimate from past runs. Default:"
        " measure small models.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
