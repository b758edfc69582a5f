"""`suggest`: rank candidate sources for a search. Knows typer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli._options import AsJson, Device, Download
from evovlm.cli.devices import device_for
from evovlm.cli.paths import new_file
from evovlm.recipe.limits import MOST_ITEMS, MOST_SEED


def suggest(
    models: Annotated[list[str], typer.Argument(help="Models tuned from one base, or one folder that contains them.")],
    base: Annotated[str, typer.Option(help="The model that all of them were tuned from.")],
    data: Annotated[str, typer.Option(help="Task and split, such as zoo-maths:search.")],
    items: Annotated[int, typer.Option(min=2, max=MOST_ITEMS, help="Questions per merge that is tried.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed that selects the items.")] = 0,
    device: Device = "auto",
    picture: Annotated[
        Path | None, typer.Option(callback=new_file, help="Write an SVG: cosines of task vectors by layer.")
    ] = None,
    as_json: AsJson = False,
    download: Download = False,
) -> None:
    """Rank candidate sources for a task with cheap tests, and explain each rank.

    Examples:
      evovlm suggest zoo:ja zoo:math zoo:math2 --base zoo:base --data zoo-maths:search
      evovlm suggest my-models --base my-base --data zoo-maths:search --picture kin.svg
    """
    from evovlm.cli.console import OUT, suggestions_table
    from evovlm.cli.progress import shown, waiting

    with waiting("starting"):
        from evovlm import api
        from evovlm.evolution.suggest.advise import named_models
        from evovlm.evolution.suggest.kinship import draw_kinship

        names = named_models(models)
        device = device_for(device)
    with shown() as watch:
        advice = api.suggest(
            names, base=base, data=data, items=items, seed=seed, device=device, download=download, watch=watch
        )
    if picture is not None:
        picture.write_text(draw_kinship(advice.kinship), encoding="utf-8")
    if as_json:
        ranking = [vars(one) for one in advice.ranking]
        print(json.dumps({"base": advice.base_score, "ranking": ranking, "answers": advice.answers}))
        return
    OUT.print(suggestions_table(advice))
