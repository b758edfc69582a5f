"""The options of `evovlm app`, one per line of its --help. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli.limits import MOST_GIGABYTES, fraction

Models = Annotated[
    list[str] | None,
    typer.Option("--models", help="A recipe (its sources and merge) or a checkpoint folder; repeatable."),
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Host = Annotated[str, typer.Option(help="Address to bind to; 0.0.0.0 for all addresses.")]
Studies = Annotated[Path, typer.Option(help="Folder of studies to show; searches are written there.")]
Photos = Annotated[Path | None, typer.Option(help="Folder of photographs that visitors can choose from.")]
Device = Annotated[str, typer.Option(help="For the models: cpu, cuda, cuda:1, or auto: a GPU if one works.")]
MemoryGb = Annotated[
    float | None,
    typer.Option(
        **fraction(0.05, MOST_GIGABYTES),
        help="Memory for models, in GB; default: half of the free memory.",
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        envvar="EVOVLM_ALLOW_HOST",
        help="Host name that the app also answers to, besides this machine's own names; repeatable.",
    ),
]
Auth = Annotated[str | None, typer.Option(envvar="EVOVLM_AUTH", help="NAME:PASSWORD for visitors to log in with.")]
Searches = Annotated[bool, typer.Option(help="Let visitors start and stop searches.")]
Download = Annotated[bool, typer.Option("--download", help="Download hub models that are not cached.")]
SelfCheck = Annotated[
    bool,
    typer.Option("--self-check/--no-self-check", help="Compare each model's logits with transformers' first."),
]
