"""`lmeh`: score a checkpoint on lm-evaluation-harness's Japanese tasks. Knows typer and the harness's command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from evovlm.recipe.limits import MOST_ITEMS


def lmeh(
    model: Annotated[str, typer.Argument(help="A language model: checkpoint folder, zoo:NAME or hub id.")],
    out: Annotated[Path, typer.Option(help="Folder for the harness's results.")] = Path("runs/lmeh"),
    task: Annotated[list[str] | None, typer.Option(help="The harness's tasks; default: its Japanese group.")] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1.")] = "cpu",
    batch: Annotated[str, typer.Option(help="Batch size, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Compute dtype; auto: as stored.")] = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_ITEMS, help="Questions per task, for a trial run.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing models and data.")] = False,
    data_code: Annotated[
        bool, typer.Option("--data-code", help="Allow data sets to run their own code, as JGLUE's does.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command without running it.")] = False,
) -> None:
    """Score a checkpoint on JP-LMEH with lm-evaluation-harness; needs the extra `lmeh`.

    \b
    Examples:
      evovlm bench lmeh my-merge --device cuda --download --data-code
      evovlm bench lmeh zoo:ja --task ja_leaderboard_jcommonsenseqa --limit 20 --dry-run
    """
    from evovlm.cli.console import OUT
    from evovlm.models.open_model import resolve_folder
    from evovlm.system.errors import UserError
    from evovlm_benchmarks.runner.harness import (
        TASKS,
        harness_command,
        harness_environment,
        read_scores,
        refuse_vlm,
        write_summary,
    )
    from evovlm_benchmarks.runner.tables import Sheet, print_sheet

    folder = resolve_folder(model, None, Path.cwd(), download=download)
    refuse_vlm(folder)
    command = harness_command(
        sys.executable, folder, task or [], device=device, batch=batch, dtype=dtype, out=out, limit=limit
    )
    if dry_run:
        OUT.print(shlex.join(command), soft_wrap=True)
        return
    done = subprocess.run(command, env=harness_environment(download=download, data_code=data_code), check=False)
    if done.returncode != 0:
        raise UserError(f"the harness failed with exit code {done.returncode}; see its output above")
    scores = read_scores(out)
    rows = tuple(
        (found.task, found.metric, f"{found.value:.4f}", "" if found.error is None else f"{found.error:.4f}")
        for found in scores
    )
    average = write_summary(out, model, scores, device)
    notes = () if average is None else (f"JP-LMEH, mean of the {len(TASKS)} tasks: {average:.2f}",)
    columns = ("task", "measure", "value", "standard error")
    print_sheet(OUT, Sheet(f"{model} by lm-evaluation-harness", columns, rows, notes, words=2))
