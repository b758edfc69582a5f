"""Run a command as a user does and watch it: seconds, memory of host and GPU, silence, slower ways.

Knows processes, their output and GPUs; no models.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

POLL = 0.25  # seconds
NOT_EXECUTABLE = 126  # the exit code that a shell gives for a program that cannot be started
LIMIT = 480.0  # seconds; a step that takes longer is stopped
# Sentences of evovlm about work that is done in a slower way than it could be.
SLOWER = re.compile(
    r"on the CPU|transformers' layers|one tensor at a time|gives way|without the kernels", re.IGNORECASE
)
STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Watched:
    """A command that has ended.

    silence: the longest time without a character of output, in seconds. host, gpu: peak bytes. code is None if the
    command was stopped because it took longer than its limit. slower: what it said about slower ways.
    """

    words: tuple[str, ...]
    code: int | None
    seconds: float
    silence: float
    host: int
    gpu: int
    output: str
    slower: tuple[str, ...]


def evovlm(*words: str) -> list[str]:
    """The command line of this interpreter's evovlm."""
    return [sys.executable, "-P", "-m", "evovlm", *words]


def gpu_id(device: str) -> str:
    """The GPU of a device's name as nvidia-smi identifies it: by its UUID, because the numbers may differ from CUDA's.

    `0` for other devices.
    """
    found = torch.device(device)
    if found.type != "cuda":
        return "0"
    index = torch.cuda.current_device() if found.index is None else found.index
    return f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def watch(words: Sequence[str], folder: Path, *, limit: float = LIMIT, gpu: str = "0") -> Watched:
    """Run a command in a folder, without a terminal and offline, until its end or the limit of seconds.

    gpu: whose memory is watched, by nvidia-smi's name. A program that cannot be started has failed.
    """
    began = time.monotonic()
    with _gpu_memory(gpu) as memory:
        try:
            process = subprocess.Popen(
                words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            )  # fmt: skip
        except OSError as error:
            told = f"{words[0]}: cannot be started ({error.strerror})"
            return Watched(tuple(words), NOT_EXECUTABLE, 0.0, 0.0, 0, 0, told, ())
        listener = _Listener(process)
        host, stopped = 0, False
        with process:
            while process.poll() is None:
                host = max(host, _memory(process.pid))
                if time.monotonic() - began > limit:
                    stopped = True
                    _stop(process.pid)
                time.sleep(POLL)
            text, silence = listener.ended()
        used = memory.peak()
    slower = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if SLOWER.search(line)))
    seconds = time.monotonic() - began
    return Watched(tuple(words), None if stopped else process.returncode, seconds, silence, host, used, text, slower)


class _Listener:
    """Reads a process's output in a thread, and notes the longest silence."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._pipe, self._parts, self._silence = process.stdout, [b""], 0.0
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while part := os.read(self._pipe.fileno(), 2**16):
            self._note()
            self._parts.append(part)

    def _note(self) -> None:
        now = time.monotonic()
        self._silence, self._heard = max(self._silence, now - self._heard), now

    def ended(self) -> tuple[str, float]:
        """The whole output without colours, and the longest silence in seconds."""
        self._thread.join(5)  # a grandchild may hold the pipe open
        self._note()
        return STYLES.sub("", b"".join(self._parts).decode("utf-8", "replace")), self._silence


def _memory(pid: int) -> int:
    """Resident bytes of a process and its children, without what is mapped from files or shared."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for one in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                told = one.memory_info()
                total += told.rss - told.shared
    return total


def _stop(pid: int) -> None:
    """Kill a process and its children."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for one in (*root.children(recursive=True), root):
            with suppress(psutil.Error):
                one.kill()


class _Gpu:
    """Peak of the used memory of a GPU, from the driver's own tool; 0 without a GPU."""

    def __init__(self, log: Path | None) -> None:
        self._log = log

    def peak(self) -> int:
        """Bytes, above those in use at the start."""
        if self._log is None or not self._log.is_file():
            return 0
        found = [int(line) for line in self._log.read_text().splitlines() if line.strip().isdigit()]
        return (max(found) - found[0]) * 2**20 if found else 0


@contextmanager
def _gpu_memory(gpu: str) -> Iterator[_Gpu]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield _Gpu(None)
        return
    words = [tool, "--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={gpu}", "--loop-ms=250"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "used"
        with log.open("wb") as file:
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.DEVNULL)
        try:
            yield _Gpu(log)
        finally:
            process.kill()
            process.wait()
