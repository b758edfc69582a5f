"""Whatever a user gives: a sentence and an exit code, no traceback, at once. In this process, through the entry."""

import os
import resource
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.command import Done, evovlm_here

RECIPES = Path(__file__).parent.parent.parent / "recipes"
EXAMPLES = max(200, settings().max_examples)  # the profiles `thorough` and `recorded` ask for more
MOST_SECONDS = 10.0
MOST_BYTES = 500e6  # of memory, more than before the first example
CODES = (0, 2)
AT_START: list[float] = []  # bytes

pytestmark = pytest.mark.examples


def peak_bytes() -> float:
    """The most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load the libraries and a model before memory is compared."""
    assert evovlm_here("merge", "zoo-llm", "out", "--dry-run", folder=tmp_path_factory.mktemp("warm")).returncode == 0
    AT_START.append(peak_bytes())


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


TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(RECIPES.glob("zoo-*.yaml"))}
MERGEKIT = """\
merge_method: ties
base_model: zoo:base
models:
  - {model: "zoo:ja", parameters: {weight: 0.5, density: [0.1, 0.9]}}
  - {model: "zoo:math", parameters: {weight: [{filter: mlp, value: 0.2}, {value: 0.4}]}}
parameters: {normalize: true}
dtype: bfloat16
"""
GOOD = [*TEXTS.values(), MERGEKIT]
SUITE = """\
models: [{name: a, model: "zoo:ja"}, {name: b, model: "zoo:math", presets: short}]
tasks: [{task: "zoo-maths:test", items: 2}, {task: "mgsm-ja@data:test", preset: greedy}]
seed: 1
batch: 4
"""
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
def broken_texts(draw: st.DrawFn, whole: Sequence[str] = GOOD) -> str:
    """A good text in which some places are cut out, doubled or replaced."""
    text = draw(st.sampled_from(whole))
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
def broken_structures(draw: st.DrawFn, whole: Sequence[str] = GOOD) -> str:
    """A good text in which some values are others, of any type, or keys are added."""
    content = yaml.safe_load(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(content)))
        here = content
        for key in above:
            here = here[key]
        if isinstance(here, dict) and draw(st.integers(0, 5)) == 0:
            last = draw(st.text(max_size=8))
        here[last] = draw(VALUES)
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something of every kind that a path may name."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "folder").mkdir()
    (folder / "file").write_text("x", encoding="utf-8")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "nowhere").symlink_to("not-there")
    (folder / "[red]x[").mkdir()
    os.mkfifo(folder / "pipe")
    return folder


@given(text=broken_texts() | st.text(max_size=200))
@bounded()
def test_any_text_as_a_recipe_is_answered(text: str, place: Path):
    (place / "r.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert_answered("recipe", "check", "r.yaml", folder=place)


@given(text=broken_structures(), command=st.sampled_from(["check", "convert", "dry-run"]))
@bounded()
def test_any_structure_as_a_recipe_is_answered(text: str, command: str, place: Path):
    (place / "r.yaml").write_text(text, encoding="utf-8")
    if command == "dry-run":
        assert_answered("merge", "r.yaml", "out", "--dry-run", folder=place)
    else:
        assert_answered("recipe", command, "r.yaml", folder=place)
    assert not (place / "out").exists()


@given(text=broken_structures([SUITE]) | broken_texts([SUITE]))
@bounded()
def test_any_suite_is_answered(text: str, place: Path):
    (place / "suite.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    # No task has this preset, so that a suite that is still valid is read and planned, and not run.
    done = assert_answered("bench", "run", "suite.yaml", "--preset", "none of them", folder=place)
    assert done.returncode == 2


NUMBERS = ["nan", "inf", "-inf", "-0", "0", "-1", "1e999", "9" * 30, "9" * 5000, "0x10", "1_0", "", " ", "½", "abc"]
PATHS = ["folder", "file", "file/x", "zero", "pipe", "nowhere", "[red]x[", "a" * 300, "x/" * 3000, "/proc/x", "\0", "~"]
NAMES = ["zoo-llm", "zoo:ja", "zoo:nope", "cpu", "meta", "cuda:99", "[/red]", ":fire:", "\udcff", "--help", "-", "--"]
WORDS = st.sampled_from(NUMBERS + PATHS + NAMES) | st.text(string.printable, max_size=8)
OPTIONS = {
    "merge": ["--threads", "--max-shard-gb", "--dry-run"],
    "evolve": ["--trials", "--items", "--seed", "--judged", "--device", "--out", "--workers", "--sources-in"],
    "evaluate": ["--items", "--seed", "--batch", "--preset", "--device", "--data"],
    "suggest": ["--base", "--data", "--items", "--seed", "--device", "--picture"],
    "report": [],
    "export": ["--storage", "--name"],
    "recipe": ["--to", "--json"],
    "zoo": ["--json", "--scale", "--size"],
    "bench": ["--model", "--task", "--preset", "--items", "--out", "--scoring", "--lid", "--predictions", "--to"],
}
# Their first positional argument is a name of a subcommand; those that could really start long work are left out.
INNER = {
    "recipe": ["list", "show", "check", "convert"],
    "zoo": ["list"],
    "bench": ["tasks", "compare", "show", "score", "leaderboard", "overlap"],
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with options and arguments of any kind; searches are only planned."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    words = [name, *([draw(st.sampled_from(INNER[name]))] if name in INNER else [])]
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()) and OPTIONS[name]:
            words.append(draw(st.sampled_from(OPTIONS[name])))
        words.append(draw(WORDS))
    dry = {"merge": ["--dry-run"], "evolve": ["--dry-run", "--no-measure"]}
    return [*words, *dry.get(name, [])]


@given(words=command_lines())
@bounded()
def test_any_option_is_answered(words: list[str], place: Path):
    done = evovlm_here(*words, folder=place)
    assert done.returncode in (*CODES, 1), (words, done)  # 1: `bench overlap` has found some
    assert "Traceback" not in done.stderr, (words, done.stderr)
