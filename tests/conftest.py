"""Fixtures that several test folders share."""

import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch loads: threads that spin while they wait take ten times as long where other work shares the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from tests.interpreter import fuse_multiply_adds

# What the tests remember of files is not the user's.
REMEMBERED = tempfile.TemporaryDirectory(prefix="evovlm-tests-")
os.environ["EVOVLM_CACHE"] = REMEMBERED.name

# Shells start background jobs deaf to interrupts, and what these start inherits it; some tests interrupt theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton's interpreter stands in for a GPU where there is none: the kernels' own code, run on the CPU. Here and not
# beside the kernels' tests, for Triton asks once, when a kernel is first imported, and any test may be the first.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton"):
        fuse_multiply_adds()

# `make test-all` asks hypothesis for more examples than its default of 100.
settings.register_profile("thorough", max_examples=200, deadline=None)
# For recorded runs, which CONTRIBUTING.md tells how to start: other examples each time.
settings.register_profile("recorded", max_examples=5000, deadline=None, derandomize=False, print_blob=True)
PARTS = 25  # of a test marked `examples`, in a recorded run; 200 examples each


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Split each test marked `examples` into parts in a recorded run, so that it can use many cores."""
    recorded = settings().max_examples >= settings.get_profile("recorded").max_examples
    drawn = hasattr(metafunc.function, "hypothesis")
    if recorded and drawn and metafunc.definition.get_closest_marker("examples"):
        metafunc.fixturenames.append("part")
        metafunc.parametrize("part", range(PARTS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of slow tests come first, so that no process is left alone with one of them at the end of a run."""
    tests, slow = Counter(item.path for item in items), Counter[Path]()
    for item in items:
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: -slow[item.path] / tests[item.path])


# Seconds of processor time from which a test must be marked slow. Not wall time, which depends on what else runs.
SLOW = 5.0


def _processor_seconds() -> float:
    """Seconds of this process and of those it started and waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note how much processor time each test takes."""
    before = _processor_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("processor_seconds", _processor_seconds() - before))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that are slow and not marked so: they hold up `make check` and `make test`."""
    for report in terminalreporter.stats.get("passed", []):
        seconds = dict(report.user_properties).get("processor_seconds", 0.0)
        if report.when == "call" and seconds > SLOW and not {"slow", "examples"} & set(report.keywords):
            terminalreporter.write_line(f"{report.nodeid} took {seconds:.0f} s: mark it @pytest.mark.slow", yellow=True)


# Public data sets beside the checkout; tests that measure on them skip where they are absent.
SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets (mgsm, gsm8k, lookvqa, ...); skips the test without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the public data sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def paper(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The paper's models cut down, by name, in one folder; to be read alone, for many tests share them."""
    from tests.hub_layouts import save_paper_models  # loads transformers, which few tests need

    return save_paper_models(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def paper_of_few_tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same models with a sixteenth of the vocabulary, for tests that merge often and are not about rows."""
    from tests.hub_layouts import FEW_TOKENS, save_paper_models

    return save_paper_models(tmp_path_factory.mktemp("small-hub"), FEW_TOKENS)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium; the tests say so where there is none."""
    from tests.browser import open_browser

    yield from open_browser()
