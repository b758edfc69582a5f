"""One small run of the benchmarks that several tests read, and the command line."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.__main__ import main

SUITE = """
models:
  - {name: ja, model: "zoo:ja"}
  - {name: vlm, model: "zoo:vlm"}
tasks:
  - {task: "zoo-vqa:test", items: 40}
  - {task: "zoo-maths:test", items: 40}
batch: 8
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def bench(*words: str, folder: Path) -> Done:
    """`evovlm bench WORDS` in a folder, in this process: starting one takes longer than most of the commands."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(words))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `whole` of an unbroken run, beside its suite."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = bench("run", "suite.yaml", "--out", "whole", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder
