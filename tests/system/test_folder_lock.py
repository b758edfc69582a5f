"""A folder that a process works in, seen by another process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evovlm.system.errors import UserError
from evovlm.system.folder_lock import HOLDER, hold

HOLDING = """
import sys, time
from pathlib import Path
from evovlm.system.folder_lock import hold
with hold(Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in `tmp_path / "s"`."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_works_there(tmp_path: Path, other: subprocess.Popen[str]):
    told = rf"s: another process is using this folder \(process {other.pid} on .*, since \d.*\); wait until it ends"
    with pytest.raises(UserError, match=told), hold(tmp_path / "s"):
        pass
    assert (tmp_path / "s" / HOLDER).exists()  # still the other's


def test_a_killed_process_holds_nothing(tmp_path: Path, other: subprocess.Popen[str]):
    other.send_signal(signal.SIGKILL)
    other.wait()
    with hold(tmp_path / "s"):
        assert f'"process": {os.getpid()}' in (tmp_path / "s" / HOLDER).read_text(encoding="utf-8")
    assert not (tmp_path / "s" / HOLDER).exists()


def test_a_folder_is_free_again_after_an_error(tmp_path: Path):
    with pytest.raises(KeyError), hold(tmp_path / "s"):
        raise KeyError
    with hold(tmp_path / "s"):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("kept")])
def test_a_lock_that_is_not_a_file_is_refused_and_a_links_target_stays(tmp_path: Path, make: Callable[[Path], None]):
    (tmp_path / "kept").write_text("mine")
    make(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"\.lock: is not a file; remove it"), hold(tmp_path):
        pass
    assert (tmp_path / "kept").read_text() == "mine"


def test_a_holder_that_is_a_pipe_is_not_waited_for(tmp_path: Path):
    with hold(tmp_path):
        (tmp_path / ".holder.json").unlink()
        os.mkfifo(tmp_path / ".holder.json")
        with pytest.raises(UserError, match="another process is using this folder"), hold(tmp_path):
            pass
