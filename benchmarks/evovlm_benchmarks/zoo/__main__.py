"""Benchmarks of the zoo's models: `python -m evovlm_benchmarks.zoo skills`, `... picture`, `... samples`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
Models = Annotated[list[str], typer.Argument(help="NAME=FOLDER, or the name of a zoo model.")]


@app.command("skills")
def skills_command(
    models: Models,
    out: Annotated[Path, typer.Option(help="JSON file to write: per cent correct by model and skill.")],
    items: Annotated[int, typer.Option(min=1, help="Test items per skill.")] = 300,
) -> None:
    """Measure the skills of small-zoo models.

    Example: python -m evovlm_benchmarks.zoo skills base ja vlm evolved=runs/demo/checkpoint --out skills.json
    """
    from evovlm_benchmarks.zoo.skills import measure

    found = {name: measure(folder, items) for name, folder in _folders(models).items()}
    out.write_text(json.dumps({"items": items, "skills": found}, indent=2) + "\n", encoding="utf-8")


@app.command("picture")
def picture_command(
    skills: Annotated[Path, typer.Argument(help="JSON file from `skills`.")],
    out: Annotated[Path, typer.Option(help="SVG file to write.")],
) -> None:
    """Draw skills as a bar chart.

    Example: python -m evovlm_benchmarks.zoo picture skills.json --out docs/images/zoo-skills.svg
    """
    from evovlm_benchmarks.zoo.bars import draw_bars

    out.write_text(draw_bars(json.loads(skills.read_text(encoding="utf-8"))["skills"]), encoding="utf-8")


@app.command("samples")
def samples_command(
    models: Models,
    data: Annotated[str, typer.Option(help="TASK:SPLIT.")] = "zoo-vqa:test",
    items: Annotated[int, typer.Option(min=1, help="Items to show.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed that selects the items.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Also write the items' images to this PNG file.")] = None,
) -> None:
    """Print a table of every model's answers to some items.

    Example: python -m evovlm_benchmarks.zoo samples base ja vlm --picture samples.png
    """
    from evovlm.tasks import parse_split
    from evovlm_benchmarks.zoo.samples import answer_all, strip, table

    task, split = parse_split(data)
    chosen = task.items(split, items, seed)
    if picture is not None:
        strip(chosen).save(picture)
    print(table(chosen, answer_all(_folders(models), task, chosen)))


def _folders(models: list[str]) -> dict[str, Path]:
    """Folders by name: from NAME=FOLDER, or the zoo model's folder for a bare name."""
    from evovlm.models.zoo_models import zoo_folder

    pairs = [given.partition("=") for given in models]
    return {name: Path(folder) if folder else zoo_folder(name) for name, _, folder in pairs}


if __name__ == "__main__":
    app()
