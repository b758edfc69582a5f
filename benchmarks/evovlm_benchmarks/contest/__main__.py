"""`python -m evovlm_benchmarks.contest`: search with every method on the zoo, and write a row per method and seed.

Knows the searches and how to run them in parallel; a rerun continues.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from evovlm.cli.entry import run_command
from evovlm.cli.limits import MOST_ROUNDS, MOST_THREADS
from evovlm.cli.paths import new_file, new_folder
from evovlm.recipe.limits import MOST_MADE_ITEMS, MOST_TRIALS


def contest(
    out: Annotated[Path, typer.Option(callback=new_file, help="Write a JSON line per method and seed here.")],
    work: Annotated[
        Path, typer.Option(callback=new_folder, help="Folder for the searches; a rerun resumes them.")
    ] = Path("runs/contest"),
    method: Annotated[list[str] | None, typer.Option(help="Only this method; repeat for several.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=MOST_ROUNDS, help="Seeds per method.")] = 5,
    trials: Annotated[int, typer.Option(min=1, max=MOST_TRIALS, help="Candidates per search.")] = 24,
    items: Annotated[int, typer.Option(min=2, max=MOST_MADE_ITEMS, help="Questions per candidate.")] = 60,
    judged: Annotated[
        int, typer.Option(min=4, max=MOST_MADE_ITEMS, help="Test questions; half as many choose the winner.")
    ] = 300,
    jobs: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Searches to run in parallel.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare all merge methods at an equal number of candidates, with seeds.

    Examples:
      python -m evovlm_benchmarks.contest --jobs 16 --out docs/studies/methods.jsonl
      python scripts/write_methods.py
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # searches run in parallel, each on its own core
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from evovlm.cli.console import OUT
    from evovlm.cli.progress import shown
    from evovlm.methods import METHODS
    from evovlm.system import files
    from evovlm.system.errors import StudyError, UserError
    from evovlm.system.plain_text import abridged
    from evovlm_benchmarks.contest.recipes import search_of
    from evovlm_benchmarks.studies.arms import DONE, Arm, read_arm, run_arms, zoo_digest
    from evovlm_benchmarks.studies.plans import Budget

    for name in method or ():
        if name not in METHODS:
            raise UserError(f"--method: unknown method {abridged(name)!r}; choose from {list(METHODS)}")
    names = [name for name in METHODS if not method or name in method]
    # A folder of its own for each budget, because a finished search is not repeated.
    folder = f"{trials}-{items}-{judged}"
    budget = Budget(trials, items)
    arms = [Arm(folder, name, search_of(name, budget, seed), judged) for name in names for seed in range(seeds)]
    work = work / zoo_digest()
    others = other_rows(out, names)
    rows: dict[tuple[str, int], dict[str, Any]] = {}

    def done(arm: Arm) -> None:
        rows[arm.name, arm.seed] = row_of(arm, read_arm(work / arm.folder / DONE))
        ordered = in_order([*others, *rows.values()])
        files.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))
        watch.step(f"{arm.name} {arm.seed}")

    with shown() as watch:
        watch.phase("searches", len(arms))
        try:
            run_arms(arms, work, device=device, jobs=jobs, progress=done)
        except StudyError as error:  # which names the option of `evolve`
            raise StudyError(str(error).replace("with --out", "with --work")) from error
    kept = f", and {len(others)} of other methods kept" if others else ""
    OUT.print(f"{out}: {len(rows)} rows{kept}")


def other_rows(path: Path, names: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a file about methods that are not among the names. Raises UserError for a line that is no row."""
    from evovlm.system import files
    from evovlm.system.errors import UserError

    found = []
    try:
        for number, row in files.numbered_rows(path):
            if not (isinstance(row.get("method"), str) and isinstance(row.get("seed"), int)):
                raise UserError(f"{path}:{number}: not a row of this contest")
            found.append(row)
    except UserError as error:
        raise UserError(f"--out: {str(error).partition(';')[0]}; choose another file, or remove this one") from None
    return [row for row in found if row["method"] not in names]


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by method, as they are registered, and seed."""
    from evovlm.methods import METHODS

    places = {name: place for place, name in enumerate(METHODS)}
    return sorted(rows, key=lambda row: (places.get(row["method"], len(places)), row["seed"]))


def row_of(arm: Any, found: dict[str, Any]) -> dict[str, Any]:
    """A search's row: what was merged and asked, how often was tried, and the winner's score on the test items."""
    recipe = arm.recipe
    return {
        "method": arm.name,
        "seed": arm.seed,
        "score": found["tests"]["winner"],
        "tries": len(found["curve"]),
        "searched": list(dict.fromkeys(_kind(gene) for gene in found["genes"])),
        "base": None if recipe.base is None else recipe.base.model,
        "models": [source.model for source in recipe.sources],
        "data": recipe.data.test,
        "items": found["items"],
        "judged": found["judged"],
        "zoo": found["zoo"],
        "commit": found["commit"],
        "cpu_seconds": found["cpu_seconds"],
        "hardware": found["hardware"],
        "versions": found["versions"],
    }


def _kind(gene: str) -> str:
    """`weight` for `ja.weight.whole`, `lambda` for `options.lambda.whole`."""
    return gene.split(".")[1]


if __name__ == "__main__":
    run_command(contest)
