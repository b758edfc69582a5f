"""The command lines in this process: starting a Python that loads torch takes longer than most of the commands."""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import evovlm.cli
import evovlm_app.program
import evovlm_benchmarks.program


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def evovlm_here(*words: str, folder: Path) -> Done:
    """`evovlm WORDS` in a folder. `bench` is what it would start: the benchmarks' own command line."""
    if words[:1] == ("bench",):
        return bench(*words[1:], folder=folder)
    if words[:1] == ("app",):  # would take this process's place
        done = subprocess.run(
            [sys.executable, "-P", "-m", "evovlm", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)
    return _here(evovlm.cli.main, words, folder)


def bench(*words: str, folder: Path) -> Done:
    """`evovlm bench WORDS` in a folder."""
    return _here(evovlm_benchmarks.program.main, words, folder)


def app_here(*words: str, folder: Path) -> Done:
    """`evovlm app WORDS` in a folder, for words that it refuses; others would start the app in this process."""
    return _here(evovlm_app.program.main, words, folder)


def _here(main: Callable[[list[str]], None], words: tuple[str, ...], folder: Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(words))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Done(code, out.getvalue(), err.getvalue())
