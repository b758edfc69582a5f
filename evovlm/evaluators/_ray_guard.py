"""The guard of our own Ray cluster: a process that ends what is left of it, however the driver ends.

Knows the cluster's folder, in which each of its processes has files open; no Ray. This file is run as a program with
FOLDER and DRIVER (a process id), and a pipe from the driver as standard input: the end of the pipe is the end of the
cluster. Without it, two of Ray's agents live on for a minute after a driver was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

PROCESSES = Path("/proc")
SHARED_MEMORY = "/dev/shm/"
GRACE = 10.0  # seconds until the guard gives up on processes that cannot be killed
PAUSE = 0.05


@contextmanager
def guarded_folder() -> Iterator[Path]:
    """A new folder for a cluster's files. When the block or the driver ends, its processes are ended and it is deleted.

    Only Linux tells which process has which files open; elsewhere the folder is deleted at the end of the block.
    """
    # Not in TMPDIR, which may be long: the paths of Ray's sockets must not exceed 107 bytes.
    folder = Path(mkdtemp(prefix="evovlm-ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp")))
    if sys.platform != "linux":
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
        return
    guard = subprocess.Popen(
        [sys.executable, "-P", __file__, str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the driver's group must not reach the guard
    )
    assert guard.stdin is not None
    try:
        yield folder
    finally:
        guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(GRACE + 5)


def end_cluster(folder: Path, driver: int) -> None:
    """Kill the processes that have files open in `folder`, except this one and `driver`; then delete the folder.

    Shared memory that only they had mapped is deleted too.
    """
    shared: set[str] = set()
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        left = [pid for pid in _mine() if pid not in (os.getpid(), driver) and _uses(pid, folder)]
        if not left:
            break
        for pid in left:
            shared |= _shared_memory(pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)
    for path in shared - set().union(*map(_shared_memory, _mine())):
        Path(path).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _mine() -> list[int]:
    """The processes of this user."""
    found = []
    for entry in PROCESSES.iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                found.append(int(entry.name))
    return found


def _uses(pid: int, folder: Path) -> bool:
    inside = f"{folder}/"
    with suppress(OSError):
        for entry in (PROCESSES / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(entry).startswith(inside):
                    return True
        # A process that has just started may have no file open yet.
        return inside.encode() in (PROCESSES / str(pid) / "cmdline").read_bytes()
    return False


def _shared_memory(pid: int) -> set[str]:
    """Paths of the shared memory and semaphores that a process has mapped."""
    with suppress(OSError):
        lines = (PROCESSES / str(pid) / "maps").read_text(errors="replace").splitlines()
        return {line[line.index(SHARED_MEMORY) :] for line in lines if SHARED_MEMORY in line}
    return set()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the guard ends with the driver and not before
    sys.stdin.buffer.read()
    end_cluster(Path(sys.argv[1]), int(sys.argv[2]))
