"""The command lines in this process: starting a Python that loads torch takes longer than most of the commands."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import evovlm.cli
import evovlm_app.program
import evovlm_benchmarks.program

# Runs the commands that it reads from standard input, and writes what each left behind.
IN_TURN = """
import json, sys
from pathlib import Path
from tests.command import evovlm_here

for words in json.load(sys.stdin):
    done = evovlm_here(*words, folder=Path.cwd())
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
    if done.returncode:
        break
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


def evovlm_in_turn(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str]) -> Iterator[Done]:
    """`evovlm WORDS` for each, up to the first that fails, in one process of its own: for another environment."""
    started = subprocess.run(
        [sys.executable, "-P", "-c", IN_TURN],
        input=json.dumps([list(words) for words in commands]),
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert started.returncode == 0, started.stderr[-3000:]
    return (Done(*json.loads(line)) for line in started.stdout.splitlines())


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
