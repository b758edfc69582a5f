"""The `study` command: run the arms, draw the curves, write the page.

Knows typer and the studies; no merging.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli.limits import MOST_ROUNDS, MOST_THREADS
from evovlm.cli.paths import new_folder
from evovlm.recipe.limits import MOST_MADE_ITEMS, MOST_TRIALS
from evovlm.system.plain_text import abridged

app = typer.Typer(help="Studies on the zoo.", add_completion=False)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Study: routes, searchers, drop, spaces, or all.")],
    out: Annotated[
        Path, typer.Option(callback=new_folder, help="Folder for the arms' results; a rerun resumes them.")
    ] = Path("runs/studies"),
    seeds: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Seeds per arm.")] = 5,
    trials: Annotated[int, typer.Option(min=2, max=MOST_TRIALS, help="Evaluations per arm.")] = 200,
    items: Annotated[int, typer.Option(min=2, max=MOST_MADE_ITEMS, help="Questions per evaluation.")] = 100,
    judged: Annotated[int, typer.Option(min=4, max=MOST_MADE_ITEMS, help="Test items.")] = 500,
    jobs: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Arms to run in parallel.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    docs: Annotated[
        Path | None, typer.Option(callback=new_folder, help="Write the page and its figures to this folder.")
    ] = None,
) -> None:
    """Answer one question on the zoo, with seeds and intervals.

    Examples:
      evovlm bench study searchers --jobs 2
      evovlm bench study all --jobs 16 --docs docs
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # arms run in parallel, each on its own core
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from evovlm.cli.console import OUT
    from evovlm.cli.progress import shown
    from evovlm_benchmarks.studies.arms import run_arms, zoo_digest
    from evovlm_benchmarks.studies.page import summary, write_page
    from evovlm_benchmarks.studies.plans import STUDIES, Budget

    if name != "all" and name not in STUDIES:
        raise typer.BadParameter(f"unknown study {abridged(name)!r}; choose from {['all', *STUDIES]}")
    chosen = list(STUDIES.values()) if name == "all" else [STUDIES[name]]
    planned = [arm for plan in chosen for arm in plan.arms(Budget(trials, items), range(seeds))]
    arms = [replace(arm, judged=judged) for arm in planned]
    out = out / zoo_digest()
    with shown() as watch:
        watch.phase("arms", len(arms))
        run_arms(
            arms,
            out,
            device=device,
            jobs=jobs,
            progress=lambda arm: watch.step(f"{arm.name} {arm.seed}"),
        )
    for plan in chosen:
        for line in summary(plan, out):
            OUT.print(line)
    if docs is not None:
        OUT.print(str(write_page(out, docs)))
