"""A program that loads its libraries for long says so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evovlm.system import start


def test_loading_libraries_is_reported_if_it_takes_longer_than_a_moment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with start._patience():
        pass
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(start, "FIRST_WORD", 0.01)
    with start._patience():
        start.time.sleep(0.5)
    assert re.fullmatch(r"starting: (under 1|1) s so far\n", capfd.readouterr().err)


def test_a_current_folder_that_was_deleted_is_one_sentence(tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os; os.rmdir({str(folder)!r}); from evovlm.system.start import start; start('evovlm.cli')"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: the current folder has been deleted; change to another folder\n"
