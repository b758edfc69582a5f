"""A server on the zoo in a process of its own, and a browser: what the tests of the app share."""

import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evovlm_benchmarks.app_load.visitor import Visitor as Caller
from evovlm_benchmarks.app_load.visitor import address

ROOT = Path(__file__).parent.parent.parent
SECOND = 1000  # as browsers count
SECRET = secrets.token_hex(16)  # stands in the servers' environments; nobody may ever read it there
PASSWORD = "guest:a-good-word"
TABS = ("compare", "maths", "mix", "evolution")
# The app on a machine that takes its time over each token.
SLOWLY = """
import time
from evovlm.engines.hf import Engine

stream = Engine.stream


def slowly(self, *given):
    for piece in stream(self, *given):
        time.sleep({pause})
        yield piece


Engine.stream = slowly
"""
# So low that few requests reach them.
LIMITS = {
    "waiting": 4,
    "streams": 6,
    "sessions": 20,
    "heard_within": 6.0,
    "hourly_files": 12,
    "hourly_bytes": 30_000_000,
}
# Puts limits in the place of the app's own; to be filled.
LIMITED = """
from dataclasses import replace
from functools import partial
import evovlm_app.server
from evovlm_app.load.allowance import ALLOWANCE

evovlm_app.server.Load = partial(evovlm_app.server.Load, allowance=replace(ALLOWANCE, **{limits}))
"""
START = """
from evovlm_app.program import main

main()
"""


@dataclass
class Served:
    """A running app: its address, its folder of studies, its log so far, its process."""

    url: str
    studies: Path
    logfile: Path
    process: int = 0

    def log(self) -> list[dict[str, Any]]:
        lines = self.logfile.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
        return found


class Visitor:
    """A person with a browser of one language. What the browser asks of other hosts is kept in `strays`."""

    def __init__(self, browser: Any, url: str, locale: str, width: int = 1280) -> None:
        self.context = browser.new_context(locale=locale, viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(30 * SECOND)
        self.strays: list[str] = []
        self.page.on("request", lambda request: self._note(request.url, url))
        self.page.goto(url)
        self.page.wait_for_selector("#compare-ask")
        language = "比較" if locale.startswith("ja") else "Compare"
        self.page.get_by_role("tab", name=language).wait_for()

    def _note(self, asked: str, url: str) -> None:
        if not asked.startswith((url, url.replace("http", "ws"), "data:", "blob:")):
            self.strays.append(asked)

    def open(self, tab: str) -> None:
        self.page.locator("#tabs button[role=tab]").nth(TABS.index(tab)).click()

    def answers(self, tab: str, count: int) -> dict[str, str]:
        """The finished answers of a tab by model, once there are `count` of them."""
        done = self.page.locator(f"#{tab}-answers .answer.done")
        done.nth(count - 1).wait_for()
        return {card.get_attribute("data-model"): card.locator(".said").inner_text() for card in done.all()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(
    folder: Path,
    *more: str,
    pause: float = 0.0,
    limits: dict[str, float] | None = None,
    root: Path = ROOT,
    home: Path | None = None,
) -> Iterator[Served]:
    """The app, with its own `limits` on load or others; `pause`: seconds that each token takes longer.

    root: the folder that it is started in; home: the hub's, used offline.
    """
    port = free_port()
    served = Served(f"http://127.0.0.1:{port}", folder / "studies", folder / "log")
    before = (SLOWLY.format(pause=pause) if pause else "") + (LIMITED.format(limits=limits) if limits else "")
    started = ["-c", before + START] if before else ["-m", "evovlm_app"]
    command = [sys.executable, "-P", *started, "--port", str(port), "--studies", str(served.studies), *more]
    scratch = folder / "scratch"
    scratch.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch), "EVOVLM_TEST_SECRET": SECRET}
    environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / place) for place in (".", "app", "benchmarks"))
    if home is not None:
        environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
        environment.pop("HF_HUB_CACHE", None)
    with served.logfile.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(command, cwd=root, stderr=sink, stdout=sink, env=environment)
    served.process = process.pid
    try:
        for _ in range(1500):
            assert process.poll() is None, served.logfile.read_text(encoding="utf-8")[-2000:]
            try:
                served.health()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("the app did not start within five minutes")
        yield served
    finally:
        process.terminate()
        process.wait(30)
    assert not list(scratch.glob("evovlm-app-*"))  # what visitors sent goes with the server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app on the zoo, without a study."""
    yield from serve(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app on the zoo, behind a password."""
    yield from serve(tmp_path_factory.mktemp("locked"), "--auth", PASSWORD)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with low limits on load, on a machine that takes its time."""
    yield from serve(tmp_path_factory.mktemp("small"), pause=0.6, limits=LIMITS)


@pytest.fixture(scope="session")
def stranger(small: Served) -> Callable[[], Caller]:
    """Makes visitors of `small`, each with an address that nobody had before."""
    numbers = itertools.count()
    return lambda: Caller(small.url, address(next(numbers)), timeout=60)
