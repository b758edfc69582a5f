"""`python -m evovlm_benchmarks.evidence`: search on several zoos with several seeds, and write rows and tables.

Knows the runs and their tables; a rerun continues.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli.entry import run_command
from evovlm.cli.limits import MOST_ROUNDS, MOST_THREADS
from evovlm.cli.paths import new_file, new_folder
from evovlm.recipe.limits import MOST_MADE_ITEMS, MOST_TRIALS


def evidence(
    recipe: Annotated[str, typer.Argument(help="Recipe: a file, or the name of one that ships.")],
    zoo: Annotated[
        list[str], typer.Option(help="TRAINING_SEED=FOLDER of a zoo, or TRAINING_SEED=shipped; repeat for several.")
    ],
    out: Annotated[Path, typer.Option(callback=new_file, help="Write a JSON line per run and model here.")],
    work: Annotated[
        Path, typer.Option(callback=new_folder, help="Folder for the searches; a rerun resumes them.")
    ] = Path("runs/evidence"),
    searches: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Search seeds per zoo.")] = 2,
    trials: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="Candidates per search; the recipe's by default.")
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=2, max=MOST_MADE_ITEMS, help="Questions per candidate; the recipe's by default.")
    ] = None,
    judged: Annotated[int, typer.Option(min=4, max=MOST_MADE_ITEMS, help="Validation and test items.")] = 2000,
    jobs: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Searches to run in parallel.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Run a search with its rivals on zoos of several training seeds, and print what holds over all of them.

    Examples:
      python -m evovlm_benchmarks.evidence zoo-vlm --zoo 0=shipped --searches 1 --out evidence.jsonl
      python -m evovlm_benchmarks.evidence zoo-vlm --zoo 3=runs/zoo-3 --zoo 4=runs/zoo-4 --jobs 4 --out evidence.jsonl
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # searches run in parallel, each on its own core
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from evovlm.cli.console import OUT
    from evovlm.cli.progress import shown
    from evovlm.models.zoo_models import MANIFEST, file_digest
    from evovlm.recipe.shipped import named_recipe
    from evovlm.system.folder_lock import hold
    from evovlm_benchmarks.evidence.rows import add_rows, read_rows, rows_of
    from evovlm_benchmarks.evidence.runs import Run, named_zoos, planned, run_all
    from evovlm_benchmarks.evidence.tables import claims, made_with, method_table, refuse_mixed, run_table

    searched, name = named_recipe(recipe), Path(recipe).stem
    options = ["--judged", str(judged), "--device", device]
    options += [] if trials is None else ["--trials", str(trials)]
    options += [] if items is None else ["--items", str(items)]
    read_rows(out)  # raises for another file, before hours of work
    runs = planned(searched, name, named_zoos(zoo), range(searches), options, work)

    def done(run: Run) -> None:
        add_rows(out, rows_of(run, name, file_digest(run.zoo / MANIFEST)[:12]))
        watch.step(run.title)

    with hold(work), shown() as watch:
        watch.phase("searches", len(runs))
        run_all(runs, options, jobs=jobs, done=done)
    rows = [row for row in read_rows(out) if row.recipe == name]
    refuse_mixed(rows)
    for text in (made_with(rows), *claims(rows), method_table(rows), run_table(rows)):
        OUT.print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(evidence)
