"""The searches behind a page of evidence, one per zoo and search seed, each by the command that a user types.

Knows recipes, zoos and processes; reads no results.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from evovlm.models.zoo_models import FOLDER, MANIFEST, file_digest, verify
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import moved, write_recipe
from evovlm.system.child import die_with_parent
from evovlm.system.errors import StudyError, UserError

SHIPPED = "shipped"  # stands for the folder of the zoo that comes with the package
PREFIX = "zoo:"
RECIPE, OUTPUT = "recipe.yaml", "output.txt"


@dataclass(frozen=True)
class Run:
    """One search: the zoo of a training seed, the search seed, and the folder of its study."""

    training: str
    zoo: Path
    search: int
    folder: Path

    @property
    def title(self) -> str:
        """The run in words."""
        return f"zoo {self.training}, search seed {self.search}"

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.folder / "study"


def named_zoos(given: Sequence[str]) -> dict[str, Path]:
    """Folders of zoos by training seed, from TRAINING=FOLDER; the shipped zoo by `TRAINING=shipped`.

    Raises UserError for another form, a training seed that is given twice, or a folder without a manifest.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, sign, place = text.partition("=")
        if not (name and sign and place):
            raise UserError(f"--zoo: {text!r} is not TRAINING_SEED=FOLDER, such as 3=runs/zoo-3 or 0={SHIPPED}")
        if name in found:
            raise UserError(f"--zoo: training seed {name!r} is given twice")
        folder = FOLDER if place == SHIPPED else Path(place)
        if not (folder / MANIFEST).is_file():
            raise UserError(f"--zoo: {folder} has no {MANIFEST}; make a zoo with `evovlm zoo train --out {folder}`")
        found[name] = folder.resolve()
    return found


def on_zoo(recipe: Recipe, zoo: Path) -> Recipe:
    """The recipe with a zoo's folders in place of `zoo:NAME`. Raises CheckpointError if one is missing or damaged."""

    def placed(model: str) -> str:
        return str(verify(zoo, model.removeprefix(PREFIX))) if model.startswith(PREFIX) else model

    base = recipe.base and recipe.base.model_copy(update={"model": placed(recipe.base.model)})
    sources = tuple(one.model_copy(update={"model": placed(one.model)}) for one in recipe.sources)
    return recipe.model_copy(update={"base": base, "sources": sources})


def planned(
    recipe: Recipe, name: str, zoos: dict[str, Path], searches: Sequence[int], options: Sequence[str], work: Path
) -> list[Run]:
    """All runs; their recipes are written into their folders, which are named by the zoo and the options of `evolve`.

    Raises UserError if two training seeds have the same zoo: they would be counted as two and are one.
    """
    budget = "-".join(word.strip("-") for word in options)
    runs: list[Run] = []
    for training, zoo in zoos.items():
        for search in searches:
            folder = work / budget / f"{name}-{file_digest(zoo / MANIFEST)[:12]}-{search}"
            for run in runs:
                if run.folder == folder:
                    raise UserError(f"--zoo: training seeds {run.training} and {training} have the same zoo, {zoo}")
            folder.mkdir(parents=True, exist_ok=True)
            write_recipe(moved(on_zoo(recipe, zoo), recipe.root, folder), folder / RECIPE)
            runs.append(Run(training, zoo, search, folder))
    return runs


def words_of(run: Run, options: Sequence[str]) -> list[str]:
    """The command of a run, after `evovlm`."""
    place = ["evolve", str(run.folder / RECIPE), "--out", str(run.study), "--seed", str(run.search)]
    return [*place, "--rivals", *options]


def run_all(runs: Sequence[Run], options: Sequence[str], *, jobs: int, done: Callable[[Run], None]) -> None:
    """Run the searches in `jobs` processes, `done` after each; a killed one is resumed, a finished one is not repeated.

    Those that fail do not stop the others. Raises StudyError at the end, with the last line that each of them printed.
    """
    failures = []
    # Spawned, because a forked process cannot use CUDA and inherits locks. Killed with this one, or they would go on.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=die_with_parent, initargs=(os.getpid(),)) as pool:
        pending = {pool.submit(_carry_out, words_of(run, options), run.folder / OUTPUT): run for run in runs}
        for future in as_completed(pending):
            run = pending[future]
            if code := future.result():
                told = (run.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                failures.append(f"{run.title} ended with {code} ({told[-1] if told else 'no output'}; {run.folder})")
            else:
                done(run)
    if failures:
        raise StudyError(f"{len(failures)} of {len(runs)} searches failed: {'; '.join(failures)}")


def _carry_out(words: Sequence[str], output: Path) -> int:
    """Run a command of `evovlm` in this process, its output in a file; returns its exit code."""
    from evovlm.cli import main

    with output.open("a", encoding="utf-8") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        try:
            main(list(words))
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
