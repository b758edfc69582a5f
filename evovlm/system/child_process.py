"""Start a program of ours as a child that reads what strangers made: no output, no GPU, a pipe to this process.

Knows processes and pipes; the child limits itself with `evovlm.system.child`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection

# Nothing of the user's environment may loosen torch's loader or bring in other code; a GPU is not needed.
UNSET = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "PYTHONSTARTUP", "PYTHONINSPECT")
SET = {
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}

# Linux ends a child, if it asks for it, with the thread that started it, so a thread that lives as long as this process
# starts all of them: those of a server come and go. With the process id, since no thread is there after a fork.
_starter: tuple[int, ThreadPoolExecutor] | None = None
_lock = threading.Lock()


def start_child(module: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run `python -m MODULE FD PARENT ARGUMENTS`: a socket to this process, and its process id. Returns our end too."""
    ours, theirs = Pipe()
    with theirs:
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid()), *arguments]
        environment = {key: value for key, value in os.environ.items() if key not in UNSET} | SET
        quiet = subprocess.DEVNULL

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=quiet, stdout=quiet, stderr=quiet
            )

        return _starting_thread().submit(start).result(), ours


def _starting_thread() -> ThreadPoolExecutor:
    global _starter  # noqa: PLW0603  one thread serves the whole process
    with _lock:
        if _starter is None or _starter[0] != os.getpid():
            _starter = os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="starts-children")
        return _starter[1]
