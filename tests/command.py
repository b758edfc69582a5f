"""The command lines in this process: starting a Python that loads torch takes longer than most of the commands."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import evovlm.cli
import evovlm_app.program
import evovlm_benchmarks.program

ROOT = Path(__file__).parent.parent
# Runs the commands that it reads, one a line, and writes what each left behind.
IN_TURN = """
import json, os, sys
from pathlib import Path
from tests.command import evovlm_here

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library writes past Python is no answer
for line in sys.stdin:
    done = evovlm_here(*json.loads(line), folder=Path.cwd())
    print(json.dumps([done.returncode, done.stdout, done.stderr]), file=answers, flush=True)
"""


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


def here() -> dict[str, str]:
    """The tests' environment, for a process in another folder that runs our commands."""
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(str(ROOT / place) for place in (".", "app", "benchmarks"))}


class Companion:
    """A process of its own that runs commands in turn, in a folder and an environment: for another than the tests'."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", IN_TURN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            text=True,
            encoding="utf-8",
        )

    def evovlm(self, *words: str) -> Done:
        """`evovlm WORDS`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self._process.communicate()


def evovlm_in_turn(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Iterator[Done]:
    """`evovlm WORDS` for each, up to the first that fails, in one process of its own."""
    with Companion(folder, environment) as other:
        for words in commands:
            done = other.evovlm(*words)
            yield done
            if done.returncode:
                return


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
