"""Racing benchmarks: `python -m evovlm_benchmarks.racing runs`, `... summary`, `... agreement`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evovlm_benchmarks.racing.runs import ARMS, Run, Setting, run_arm

HERE = Path(__file__).parent
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("runs")
def runs_command(
    out: Annotated[Path, typer.Option(help="JSON-lines file; runs already in it are skipped.")],
    recipe: Annotated[str, typer.Option(help="A recipe with a search: a file or a shipped name.")] = "zoo-llm",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, each a search of its own.")] = 5,
    items: Annotated[int, typer.Option(min=16, help="Search items of a full evaluation.")] = 256,
    judged: Annotated[int, typer.Option(min=2, help="Held-out items.")] = 500,
    generations: Annotated[int, typer.Option(min=1, help="Generations with fixed subsets.")] = 8,
    only: Annotated[str | None, typer.Option(help="Run only this arm.")] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
) -> None:
    """Run searches with racing and with fixed subsets of the items, over several seeds.

    Example: python -m evovlm_benchmarks.racing runs --out runs/racing.jsonl --seeds 1 --items 64 --generations 3
    """
    from evovlm.system.files import read_rows

    setting = Setting(recipe, items, judged, generations)
    done = {(row["arm"], row["seed"]) for row in read_rows(out)}
    for seed in range(first, first + seeds):
        for arm in [arm for arm in ARMS if only in (None, arm)]:
            if (arm, seed) in done:
                continue
            run = run_arm(setting, arm, seed, _show)
            if arm == "all":
                np.savez_compressed(out.with_name(f"table-{seed}.npz"), scores=np.array(run.table, dtype=np.float32))
            with out.open("a", encoding="utf-8") as file:
                file.write(run.line() + "\n")


@app.command("summary")
def summary_command(
    runs: Annotated[list[Path], typer.Argument(help="JSON-lines files from `runs`.")],
    plot: Annotated[Path | None, typer.Option(help="Write an SVG of the mean curves.")] = None,
) -> None:
    """Print the answers that each arm needs to reach full evaluation's final score, minus 0, 1 and 2 points.

    Then, for each fixed subset, the answers that it and the race need to reach that subset's final score.

    Example: python -m evovlm_benchmarks.racing summary runs/racing.jsonl --plot racing.svg
    """
    from evovlm.system.files import read_rows
    from evovlm_benchmarks.racing.summary import answers_to, at_ends, draw, mean_curves

    rows = [row for path in runs for row in read_rows(path)]
    curves = mean_curves(rows)
    final = float(curves["all"][1][-1])
    for less in (0.0, 1.0, 2.0):
        needed = {arm: answers_to(curve, final - less) for arm, curve in curves.items()}
        print(json.dumps({"score": round(final - less, 2)} | needed))
    for end in at_ends(rows):
        print(json.dumps(asdict(end)))
    if plot is not None:
        plot.write_text(draw(curves), encoding="utf-8")


@app.command("agreement")
def agreement_command(
    tables: Annotated[list[Path], typer.Argument(help="Score tables from `runs`: table-SEED.npz.")],
) -> None:
    """Measure how well few items rank the candidates of saved generations; one JSON line each. Runs no model.

    Example: python -m evovlm_benchmarks.racing agreement benchmarks/evovlm_benchmarks/racing/tables/table-0.npz
    """
    from evovlm_benchmarks.racing.agreement import agreement

    for path in tables:
        with np.load(path) as file:
            found = agreement(file["scores"].astype(np.float64))
        for one in found:
            print(json.dumps({"table": path.stem} | asdict(one)))


def _show(run: Run) -> None:
    answers, score = run.points[-1]
    print(f"{run.arm:>5} seed {run.seed}: {answers:>6} answers, held out {score:.2f}", flush=True)


if __name__ == "__main__":
    app()
