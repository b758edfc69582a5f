"""`zoo`: the small models that come with evovlm. Knows typer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli._options import AsJson
from evovlm.cli.limits import MOST_THREADS, fraction
from evovlm.cli.paths import new_folder
from evovlm.recipe.limits import MOST_SEED

zoo_app = typer.Typer(help="The small models that come with evovlm.", no_args_is_help=True)


@zoo_app.command("list")
def zoo_list(as_json: AsJson = False) -> None:
    """List the zoo's models with their sizes and folders.

    Example: evovlm zoo list
    """
    from evovlm.cli.console import OUT
    from evovlm.models.zoo_models import ZOO_MODELS, zoo_folder
    from evovlm.system.units import size

    rows = {name: zoo_folder(name) for name in ZOO_MODELS}
    if as_json:
        print(json.dumps({name: str(folder) for name, folder in rows.items()}, indent=2))
        return
    for name, folder in rows.items():
        weight = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        OUT.print(f"zoo:{name:<8} {size(weight):>8}  {folder}")


@zoo_app.command("train")
def zoo_train(
    out: Annotated[Path, typer.Option(callback=new_folder, help="Folder for the trained models.")],
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed for weights and data.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1. Default: detected.")] = None,
    scale: Annotated[
        float, typer.Option(**fraction(0.0005, 10.0), help="Training steps, as a fraction of the default.")
    ] = 1.0,
    of_size: Annotated[str, typer.Option("--size", help="Model size: small (as shipped) or medium.")] = "small",
    processes: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Processes that generate the data; the data stay the same.")
    ] = 1,
) -> None:
    """Train the zoo from scratch, on data that it generates itself.

    It can be stopped at any time; run the same command again to continue after the last finished stage.

    Examples:
      evovlm zoo train --out my-zoo --seed 1 --device cuda --processes 6
      evovlm zoo train --out my-zoo --scale 0.01     (a try-out: one minute on a CPU)
      evovlm zoo train --out my-medium-zoo --size medium --device cuda
    """
    from evovlm.cli.console import ERR
    from evovlm.cli.progress import shown, waiting

    with waiting("starting"):
        from evovlm.zoo.train import train_zoo
    with shown() as watch:
        phase = ""

        def show(name: str, done: int, total: int) -> None:
            nonlocal phase
            if name != phase:
                watch.phase(phase := name, total)
            watch.at(done, total)

        train_zoo(
            out,
            size=of_size,
            seed=seed,
            device=device,
            scale=scale,
            processes=processes,
            report=lambda text: ERR.print(text, soft_wrap=True),
            progress=show,
        )
