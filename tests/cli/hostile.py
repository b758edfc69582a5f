"""What every test of hostile input asks: an end that is foreseen, explained, quick, and small in memory."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.command import Done, app_here, evovlm_here

# Each example is a whole command. The profile `recorded` asks for more in as many parts as tests/conftest.py makes.
EXAMPLES = 200
MOST_SECONDS = 10.0
# Of wall time where other work shares the cores; processor time is then what must not exceed MOST_SECONDS.
MOST_WAITED = 60.0
MOST_BYTES = 500e6  # of memory, more than before the command
CODES = (0, 2)
# How standard error ends for exit code 2, besides usage errors: a sentence, or the verdict below a table.
SENTENCE = re.compile(r"^error: .+|^does not fit$|^broken: ", re.MULTILINE)


class Memory:
    """The most memory that this process, and those that it starts, use from now on, above what it uses now, in bytes.

    Thousands of commands in one process make it grow a little, so each is compared with what was there before it.
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self._before, self._ended = _of("self", "VmRSS"), ended_bytes()

    def more(self) -> float:
        """Bytes more than at the start. A process that was forked has what this one had as well."""
        peaks = [_of(process, "VmHWM") for process in ("self", *_children())]
        if (ended := ended_bytes()) > self._ended:
            peaks.append(ended)
        return max(peaks) - self._before


def ended_bytes() -> float:
    """The most that any process which this one started, and which has ended, has used so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024.0


def _children() -> list[str]:
    """Process ids of children that still run, such as the one that renders chat templates."""
    found: list[str] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += path.read_text().split()
    return found


def _of(process: str, what: str) -> float:
    """Bytes of a line of a process's status: VmRSS is what it uses, VmHWM the most that it has used."""
    try:
        status = Path("/proc", process, "status").read_text()
    except OSError:  # it has ended
        return 0.0
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    return float(found[1]) * 1024.0 if found else 0.0


def warm_up(*commands: Sequence[str], folder: Path) -> None:
    """Run commands, which load libraries and a model, before memory is compared."""
    for words in commands:
        done = evovlm_here(*words, folder=folder)
        assert done.returncode == 0, done.stderr


def bounded(examples: int = EXAMPLES) -> settings:
    """Many examples, however long each takes: the time is checked here."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def assert_answered(*words: str, folder: Path, codes: Sequence[int] = CODES) -> Done:
    """Run a command; its end must be foreseen (`codes`), explained and quick, and waits count as time."""
    began, worked, memory = time.monotonic(), _processor_seconds(), Memory()
    # Started, it would take the place of this process.
    done = app_here(*words[1:], folder=folder) if words[:1] == ("app",) else evovlm_here(*words, folder=folder)
    waited, worked = time.monotonic() - began, _processor_seconds() - worked
    more = memory.more()
    assert more < MOST_BYTES, (words, more)
    assert done.returncode in codes, (words, done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stdout + done.stderr, (words, done.stderr[-2000:])
    crowded = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    assert worked < MOST_SECONDS, (words, worked)
    assert waited < (MOST_WAITED if crowded else MOST_SECONDS), (words, waited)
    if done.returncode == 2 and not done.stdout.lstrip().startswith("Usage: "):  # a group without a command: its help
        assert SENTENCE.search(done.stderr), (words, done.stderr[-2000:])
    return done


def _processor_seconds() -> float:
    """Seconds of this process and of those it started and waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**90), max_value=10**90),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "zoo:ja", "[red]", "[/]", ":fire:", "~nobody/x", "1e999", "2001-99-99", "layers 0-9", "*"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | SCALARS, inner, max_size=4),
    max_leaves=12,
)
SNIPPETS = st.sampled_from(
    ["&a ", "*a", "<<: ", "!x ", "!!int ", "? ", "- ", "[", "{", "]", "}", '"', "'", "\t", "\x00", "\ufeff", "#", "|\n"]
)


@st.composite
def broken_text(draw: st.DrawFn, text: str) -> str:
    """The text in which some places are cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 20)))
        middle = draw(SNIPPETS | st.text(max_size=6) | st.just(text[start:stop] * 2))
        text = text[:start] + middle + text[stop:]
    return text


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a structure: the keys and indices that lead to it."""
    found = [path] if path else []
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return found + [place for key, part in parts for place in places(part, (*path, key))]


@st.composite
def changed(draw: st.DrawFn, content: Any, values: st.SearchStrategy[Any] = VALUES, most: int = 3) -> Any:
    """A structure in which some values are others, of any type, or keys are added."""
    content = deepcopy(content)
    for _ in range(draw(st.integers(1, most))):
        *above, last = draw(st.sampled_from(places(content)))
        here = content
        for key in above:
            here = here[key]
        if isinstance(here, dict) and draw(st.integers(0, 5)) == 0:
            last = draw(st.text(max_size=8))
        here[last] = deepcopy(draw(values))  # a strategy may hand out one list again, and the next step change it
        if not places(content):
            break
    return content
