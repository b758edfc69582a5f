"""The options of `evolve`, one per line of its --help. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli.limits import MOST_SECONDS, MOST_WORKERS, fraction
from evovlm.cli.paths import new_folder
from evovlm.recipe.limits import MOST_ITEMS, MOST_SEED, MOST_TRIALS

Out = Annotated[Path, typer.Option(callback=new_folder, help="Folder of the study; the same command resumes it.")]
Trials = Annotated[int | None, typer.Option(min=1, max=MOST_TRIALS, help="Total candidates. Default: the recipe's.")]
Items = Annotated[
    int | None, typer.Option(min=1, max=MOST_ITEMS, help="Questions per candidate. Default: the recipe's.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Seed of the search. Default: the recipe's.")]
Judged = Annotated[
    int | None,
    typer.Option(
        min=2, max=MOST_ITEMS, help="Questions used to pick the winner, and for the final test. Default: 300 and 500."
    ),
]
Checkpoint = Annotated[bool, typer.Option("--checkpoint", help="Also write the winner as a checkpoint, in --out.")]
Rivals = Annotated[
    bool,
    typer.Option(
        "--rivals", help="Also run two baseline searches (random; one weight per source). Three times the cost."
    ),
]
Race = Annotated[
    bool | None,
    typer.Option(
        "--race/--no-race",
        help="Drop a candidate as soon as a test on few items shows that it is worse. Default: the recipe's.",
    ),
]
KeepDiverse = Annotated[
    bool,
    typer.Option(
        "--keep-diverse", help="Also keep an atlas: the best recipe for each profile of scores on two skills."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder that the recipe's relative paths start from. Default: the folder of the recipe's file."),
]
RayAddress = Annotated[str | None, typer.Option(help="Evaluate on a Ray cluster: its address, or auto.")]
WorkerCount = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_WORKERS, help="With --ray: number of workers. Default: one per GPU or core."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(**fraction(0.1, MOST_SECONDS), help="With --ray: time limit per candidate, in seconds."),
]
SourcesIn = Annotated[
    str, typer.Option(help="On a GPU, where to keep sources: auto, gpu, host (pinned, streamed) or disk (mapped).")
]
EightBit = Annotated[
    bool, typer.Option("--eight-bit", help="On a GPU, keep task vectors in 8 bits. The quantisation error is logged.")
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Report time per phase and candidate, against the hardware limit.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be done, with estimates of time, memory and disk, and stop."),
]
Measured = Annotated[
    bool | None,
    typer.Option(
        "--measure/--no-measure",
        help="With --dry-run: load the models and measure a few steps, or estimate from past runs. Default: measure"
        " small models.",
    ),
]
