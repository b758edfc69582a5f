"""`run --dry-run`: what would be asked of which model, and what that takes. Writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from evovlm.cli.console import OUT
from evovlm.cli.progress import waiting
from evovlm.evolution.forecast import SMALL
from evovlm.system.machine import free_memory
from evovlm.system.units import size
from evovlm_benchmarks.runner.estimate import Estimate, from_past_runs, measured
from evovlm_benchmarks.runner.pairs import Pair
from evovlm_benchmarks.runner.results import ANSWERS, read_answers
from evovlm_benchmarks.runner.running import failure_line, open_models
from evovlm_benchmarks.runner.suite import Suite
from evovlm_benchmarks.runner.tables import Sheet, print_sheet

ANSWER = 500  # bytes of a stored answer with its question, as runs of the zoo have them; long answers take more


def print_plan(
    suite: Suite,
    pairs: Sequence[Pair],
    out: Path,
    device: str,
    *,
    download: bool,
    self_check: bool = True,
    measure: bool | None = None,
) -> None:
    """Print each pair of model and task with its questions, and the time, memory and disk of the run.

    `measure`: load the models and measure a few questions; None: if they are small. Raises UserError if no model of
    the suite can be opened.
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
    counts = ((pair, len(pair.items) - known[pair.stem]) for pair in possible)
    left = [(pair, count) for pair, count in counts if count > 0]
    small = sum(memory.values()) <= SMALL
    if small if measure is None else measure:
        with waiting("measuring a few questions"):
            found = measured(opened, left, device, batch=suite.batch, self_check=self_check)
    else:
        found = from_past_runs(opened, left, device)
        found.whence += "; --measure loads the models and measures here" if not small else ""
    for failure in found.failures:
        OUT.print(f"not in the estimate: {failure}", soft_wrap=True)
    _print_estimate(found, sum(count for _, count in left), out, device)


def _print_estimate(found: Estimate, left: int, out: Path, device: str) -> None:
    """Print what `left` questions take."""
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    OUT.print(f"time    {found.in_words() if left else 'nothing is left to ask'}")
    OUT.print(f"memory  at most about {size(found.host)}, one model at a time; {size(free_memory())} are available")
    if device.startswith("cuda"):
        OUT.print(f"GPU     at most about {size(found.gpu)}; caches take what is free")
    OUT.print(f"disk    about {size(left * ANSWER)}; {size(shutil.disk_usage(folder).free)} are free at {folder}")
    if left:
        OUT.print(f"from    {found.whence}")
