"""Debian's Chromium, for tests of what pages look like."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def open_browser() -> Iterator[Any]:
    """The browser, for a fixture; the test says so where there is none."""
    found = os.environ.get("EVOVLM_CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no Chromium here: `make browser` installs it")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()
