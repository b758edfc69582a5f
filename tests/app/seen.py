"""What tests of the load on the app share: short words for what a running server shows of itself."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from tests.app.conftest import Served


def session() -> str:
    return secrets.token_hex(6)


def until(holds: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def ended(server: Served) -> list[str]:
    """What became of the questions that were begun."""
    return [line["event"] for line in server.log() if line["event"] in ("left", "answered")]


def pictures(server: Served) -> Path:
    """The folder of the pictures; that of searches lies beside it, empty."""
    scratch = server.logfile.parent / "scratch"
    [folder] = [folder for folder in scratch.glob("evovlm-app-*") if any(folder.iterdir())]
    return folder
