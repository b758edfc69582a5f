"""A server of the app on the zoo, in its own process. Knows its address, process and health endpoint."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STARTUP = 300  # seconds; generous, for a busy machine


@dataclass
class Server:
    """A running server."""

    url: str
    process: psutil.Process

    def health(self) -> dict[str, Any]:
        """The JSON reply of /healthz."""
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=30) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def memory_mb(self) -> float:
        """Resident memory of the process in MB."""
        return round(self.process.memory_info().rss / 1e6, 1)


@contextmanager
def serving(folder: Path, options: Sequence[str] = (), *, cwd: Path | None = None) -> Iterator[Server]:
    """A running server. Its log goes to `folder`/log, so that visitors' text stays out of our own output.

    options: more of the app's command line. cwd: the folder that relative paths start from. Exits if the server does
    not start within `STARTUP` seconds.
    """
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "evovlm_app", "--port", str(port), "--studies", str(folder), *options]
    with (folder / "log").open("w") as sink:
        surroundings = os.environ | {"HF_HUB_OFFLINE": "1"}
        started = subprocess.Popen(command, stdout=sink, stderr=sink, env=surroundings, cwd=cwd)
    try:
        server = Server(f"http://127.0.0.1:{port}", psutil.Process(started.pid))
        _wait_for(server, started)
        yield server
    finally:
        started.terminate()
        started.wait(30)


def _wait_for(server: Server, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP
    while time.monotonic() < deadline and started.poll() is None:
        try:
            server.health()
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise SystemExit("the app did not start; try `python -m evovlm_app` to see its error")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
