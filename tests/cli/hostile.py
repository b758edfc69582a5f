"""What every test of hostile input asks: an end that is foreseen, explained, quick, and small in memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.command import Done, evovlm_here

# Each example is a whole command. The profile `recorded` asks for more in as many parts as tests/conftest.py makes.
EXAMPLES = 200
MOST_SECONDS = 10.0
MOST_BYTES = 500e6  # of memory, more than before the first example
CODES = (0, 2)
AT_START: list[float] = []  # bytes


def peak_bytes() -> float:
    """The most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def warm_up(*commands: Sequence[str], folder: Path) -> None:
    """Run commands, which load libraries and a model, before memory is compared."""
    for words in commands:
        done = evovlm_here(*words, folder=folder)
        assert done.returncode == 0, done.stderr
    AT_START[:] = [peak_bytes()]


def bounded(examples: int = EXAMPLES) -> settings:
    """Many examples, however long each takes: the time is checked here, in processor seconds."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def assert_answered(*words: str, folder: Path) -> Done:
    """Run a command; its end must be foreseen, explained and quick."""
    began = time.process_time()
    done = evovlm_here(*words, folder=folder)
    seconds = time.process_time() - began
    more = peak_bytes() - AT_START[0]
    assert more < MOST_BYTES, (words, more)
    assert done.returncode in CODES, (words, done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stdout + done.stderr, (words, done.stderr[-2000:])
    assert seconds < MOST_SECONDS, (words, seconds)
    if done.returncode == 2:
        assert done.stderr.strip(), words
    return done


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
