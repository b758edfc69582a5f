"""Searches started from the page: one at a time, each a separate `evovlm evolve` process.

Knows the command line and study folders; shows nothing. Results are read from the study's log. A search is stopped by
an interrupt (SIGINT), and resumed by running the same command again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from evovlm.models.open_model import resolve_folder
from evovlm.recipe.schema import Base, Recipe, Source
from evovlm.recipe.where import split_where
from evovlm.recipe.yaml_file import anchored, write_recipe
from evovlm.study import log as study_log
from evovlm.study.header import recipe_of, sound_header
from evovlm.system.errors import CheckpointError
from evovlm.system.files import counted_from
from evovlm.tasks.item_sets import ITEMS
from evovlm_app.catalogue import MixableRecipe
from evovlm_app.limits import Refusal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}")
MOST_TRIALS, MOST_ITEMS = 200, 300
PATIENCE = 10.0  # seconds for an interrupted search to write its last line
# Restore the default SIGINT handler: a server started in the background passes "ignore" on to its children.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from evovlm.cli import main; main()"
log = logging.getLogger(__name__)


@dataclass
class Running:
    """A search in progress: its process, its latest phase, and its planned number of trials."""

    name: str
    trials: int
    process: subprocess.Popen[str]
    errors: Path
    phase: str = "start"


class Searches:
    """Starts, stops and watches searches in `studies`. `nice`: their niceness; answers to visitors go first.

    `self_check`: whether searches compare their engines' logits with those of transformers.
    """

    def __init__(self, studies: Path, *, device: str = "cpu", nice: int = 10, self_check: bool = True) -> None:
        self._studies = studies
        self._device = device
        self._self_check = self_check
        self._nice = nice
        self._lock = threading.Lock()
        self._scratch = tempfile.TemporaryDirectory(prefix="evovlm-app-")
        self._current: Running | None = None
        self._failures: dict[str, str] = {}
        self._trials: dict[str, int] = {}

    @property
    def running(self) -> Running | None:
        """The search in progress, or None."""
        current = self._current
        return current if current is not None and current.process.poll() is None else None

    def failure(self, name: str) -> str | None:
        """The reference number of a failed search, or None. The server log has the error under this number.

        The command's own message is not shown, since it contains folders of this machine.
        """
        return self._failures.get(name)

    def wanted(self, name: str) -> int | None:
        """The number of trials requested for a search since this server started, or None."""
        return self._trials.get(name)

    def start(self, name: str, mixable: MixableRecipe, trials: int, items: int, seed: int) -> None:
        """Start a new search; trials, items and seed are clamped to their limits.

        Raises Refusal if the name is bad or taken, or another search is in progress.
        """
        if not NAME.fullmatch(name):
            raise Refusal("bad_name")
        if (self._studies / name).exists():
            raise Refusal("taken_name")
        # It is judged on as many items as it searches on, so that a small search takes seconds.
        count = str(_within(items, 4, MOST_ITEMS))
        options = ["--items", count, "--judged", count, "--seed", str(_within(seed, 0, 2**31 - 1))]
        # Absolute paths: the file's folder is a temporary one, and another whenever the server starts.
        recipe = anchored(mixable.recipe, Path())
        self._run(name, recipe, trials, options + _checking(self._self_check))

    def go_on(self, name: str, folder: Path, trials: int) -> None:
        """Resume a study, with the recipe and the settings in its header.

        Its recipe's relative paths start from the folder in the header; where an earlier version wrote none, from the
        working directory. Raises Refusal if another search is in progress, or if models or data are not there.
        """
        header = sound_header(folder)
        recipe = _with_own_models(recipe_of(folder, header), folder)
        root = counted_from(folder, header["root"]) if "root" in header else Path().absolute()
        if lost := _not_there(recipe, root):
            # Visitors see it: of an absolute path the name alone.
            name_of_lost = Path(lost).name if Path(lost).is_absolute() else lost
            raise Refusal("paths_lost", lost=name_of_lost, folder=os.path.relpath(root))
        done = len(study_log.read_trials(folder))
        options = [*_judged(header), *_checking(header.get("self_check", self._self_check))]
        options += ["--race"] if header.get("race") else []
        options += ["--eight-bit"] if header.get("eight_bit") else []
        self._run(name, recipe, max(trials, done), [*options, "--root", str(root)])

    def stop(self) -> None:
        """Interrupt the search in progress; terminate it after PATIENCE seconds. Raises Refusal if there is none."""
        current = self.running
        if current is None:
            raise Refusal("not_searching")
        log.info("search stopping", extra={"facts": {"study": current.name}})
        current.process.send_signal(signal.SIGINT)
        try:
            current.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            current.process.terminate()  # studies are crash-safe
            current.process.wait()

    def close(self) -> None:
        """Stop the search in progress, if any, when the server shuts down."""
        if self.running is not None:
            self.stop()
        self._scratch.cleanup()

    def _run(self, name: str, recipe: Recipe, trials: int, options: list[str]) -> None:
        """Start the process."""
        trials = _within(trials, 1, MOST_TRIALS)
        with self._lock:
            if self.running is not None:
                raise Refusal("searching_already", name=self.running.name)
            self._studies.mkdir(parents=True, exist_ok=True)
            scratch = Path(self._scratch.name)
            write_recipe(recipe, scratch / f"{name}.yaml")
            command = [sys.executable, "-P", "-c", COMMAND, "evolve", str(scratch / f"{name}.yaml")]
            command += ["--out", str(self._studies / name), "--trials", str(trials)]
            command += [*options, "--device", self._device, "--json"]
            errors = scratch / f"{name}.log"
            with errors.open("w", encoding="utf-8") as sink:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    text=True,
                    start_new_session=True,  # on Ctrl-C at the server, only `close` interrupts it
                )
            psutil.Process(process.pid).nice(self._nice)
            self._failures.pop(name, None)
            self._trials[name] = trials
            self._current = Running(name, trials, process, errors)
            log.info("search started", extra={"facts": {"study": name, "trials": trials}})
            threading.Thread(target=self._watch, args=(self._current,), daemon=True).start()

    def _watch(self, current: Running) -> None:
        """Read the search's progress until it ends; if it failed, log the end of its error output."""
        assert current.process.stdout is not None
        for line in current.process.stdout:
            try:
                current.phase = json.loads(line).get("phase", current.phase)
            except (ValueError, AttributeError):
                continue
        code = current.process.wait()
        log.info("search ended", extra={"facts": {"study": current.name, "code": code}})
        if code not in (0, 130, -signal.SIGINT, -signal.SIGTERM):
            words = current.errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reference = secrets.token_hex(4)
            facts = {"study": current.name, "reference": reference, "error": "\n".join(words[-20:])}
            log.error("search failed", extra={"facts": facts})
            self._failures[current.name] = reference


def _checking(self_check: bool) -> list[str]:
    return [] if self_check else ["--no-self-check"]


def _judged(header: dict[str, Any]) -> list[str]:
    """The option that asks for as many validation and test items as a study was started with."""
    sets = {name: header.get("sets", {}).get(name, {}) for name in ITEMS}
    # Earlier versions wrote how many there are; asking for the largest such number gives them all.
    counts = {name: one.get("asked", one.get("items")) for name, one in sets.items()}
    known = {name: count for name, count in counts.items() if type(count) is int}
    if not known:
        return ["--judged", str(len(header.get("items", {}).get("ids", ())) or MOST_ITEMS)]
    usual = all(count == ITEMS[name] for name, count in known.items())
    return [] if usual else ["--judged", str(max(known.values()))]


def _with_own_models(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of a second stage with the models that are in the study's own folder where they are now."""
    sources = tuple(
        source.model_copy(update={"model": str((folder / source.identity).resolve())})
        if source.identity is not None and (folder / source.identity).is_dir()
        else source
        for source in recipe.sources
    )
    return recipe.model_copy(update={"sources": sources})


def _not_there(recipe: Recipe, root: Path) -> str | None:
    """The first model or data path of a recipe that cannot be found from `root`; None if all can."""
    models: list[Base | Source] = [*([] if recipe.base is None else [recipe.base]), *recipe.sources]
    for model in models:
        try:
            resolve_folder(model.model, model.revision, root)
        except CheckpointError:
            return model.model
    data = recipe.data
    for where in filter(None, [data.search, data.validation, data.test] if data is not None else []):
        path = split_where(where)[1]
        if path is not None and not counted_from(root, path).exists():
            return path
    return None


def _within(value: float, low: int, high: int) -> int:
    return min(high, max(low, int(value)))
