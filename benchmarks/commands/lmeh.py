"""`lmeh`: a checkpoint on the Japanese tasks of lm-evaluation-harness. Knows typer and the harness's command."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def lmeh(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, zoo:NAME or a hub id; a language model.")],
    out: Annotated[Path, typer.Option(help="Folder of the harness's results.")] = Path("runs/lmeh"),
    task: Annotated[list[str] | None, typer.Option(help="The harness's tasks; its Japanese group if left out.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    batch: Annotated[str, typer.Option(help="Questions at once, or auto.")] = "auto",
    dtype: Annotated[str, typer.Option(help="What is computed in; auto as stored.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Questions a task, for a trial run.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch models and data that are not here.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, and stop.")] = False,
) -> None:
    """Score a checkpoint on JP-LMEH, by lm-evaluation-harness from the extra `lmeh`.

    \b
    Examples:
      evovlm bench lmeh my-merge --device cuda --download
      evovlm bench lmeh zoo:ja --task ja_leaderboard_jcommonsenseqa --limit 20 --dry-run
    """
    from benchmarks.harness import harness_command, harness_environment, read_scores, refuse_vlm
    from benchmarks.tables import Sheet, print_sheet
    from evovlm.console import OUT
    from evovlm.sources import resolve_folder

    folder = resolve_folder(model, None, Path.cwd(), download=download)
    refuse_vlm(folder)
    command = harness_command(
        sys.executable, folder, task or [], device=device, batch=batch, dtype=dtype, out=out, limit=limit
    )
    if dry_run:
        OUT.print(shlex.join(command), soft_wrap=True)
        return
    done = subprocess.run(command, env=harness_environment(download), check=False)
    if done.returncode != 0:
        raise typer.Exit(done.returncode)
    rows = tuple((name, json.dumps(row, ensure_ascii=False)) for name, row in read_scores(out).items())
    print_sheet(OUT, Sheet(f"{model} by lm-evaluation-harness", ("task", "scores"), rows, words=2))
