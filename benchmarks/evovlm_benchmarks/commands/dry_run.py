"""`run --dry-run`: what would be asked of which model, and what that takes. Loads no weights and writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from evovlm.cli.console import OUT
from evovlm.cli.progress import waiting
from evovlm.system.machine import free_memory
from evovlm.system.units import size
from evovlm_benchmarks.runner.pairs import Pair
from evovlm_benchmarks.runner.results import ANSWERS, read_answers
from evovlm_benchmarks.runner.running import failure_line, open_models
from evovlm_benchmarks.runner.suite import Suite
from evovlm_benchmarks.runner.tables import Sheet, print_sheet

ANSWER = 500  # bytes of a stored answer with its question, as runs of the zoo have them; long answers take more


def print_plan(suite: Suite, pairs: Sequence[Pair], out: Path, device: str, *, download: bool) -> None:
    """Print each pair of model and task with its questions, and the memory and disk of the run.

    Raises UserError if no model of the suite can be opened.
    """
    with waiting("opening the models"):
        opened, unopened = open_models(suite, download=download)
    for one in unopened:
        OUT.print(f"left out: {failure_line(one)}", soft_wrap=True)
    possible = [pair for pair in pairs if pair.model.name in opened]
    memory = {name: model.bytes_on(device) for name, model in opened.items()}
    known = {pair.stem: len(read_answers(out / ANSWERS / f"{pair.stem}.jsonl")) for pair in possible}
    rows = tuple(
        (pair.model.name, pair.task.name, str(len(pair.items)), str(known[pair.stem]), size(memory[pair.model.name]))
        for pair in possible
    )
    print_sheet(OUT, Sheet("would ask", ("model", "task", "questions", "answered", "weights"), rows, words=2))
    left = sum(len(pair.items) - known[pair.stem] for pair in possible)
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = f"{size(free_memory())} are available" if device == "cpu" else "caches take what is free"
    OUT.print(f"memory  {size(max(memory.values()))} on {device} for the largest model, one at a time; {free}")
    OUT.print(f"disk    about {size(left * ANSWER)}; {size(shutil.disk_usage(folder).free)} are free at {folder}")
    OUT.print("time    run it with --items 8 to see how fast it is here")
