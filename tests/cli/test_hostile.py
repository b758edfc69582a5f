"""Whatever a user gives: a sentence and an exit code, no traceback, at once. In this process, through the entry."""

import os
import shutil
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.hostile import CODES, Memory, assert_answered, bounded, broken_text, changed, ended_bytes, warm_up

RECIPES = Path(__file__).parent.parent.parent / "recipes"
STUDY = Path(__file__).parent.parent / "fixtures" / "studies" / "studies" / "atlas"

pytestmark = pytest.mark.examples


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load the libraries and a model before memory is compared."""
    warm_up(("merge", "zoo-llm", "out", "--dry-run"), folder=tmp_path_factory.mktemp("warm"))


def test_memory_of_a_command_and_of_what_it_starts_is_seen():
    memory = Memory()
    whole = b"x" * 300_000_000
    del whole
    assert 299e6 < memory.more() < 400e6
    memory = Memory()
    assert memory.more() < 50e6
    more = int(ended_bytes() + 2e9)  # than any process that ended before
    subprocess.run([sys.executable, "-c", f"whole = b'x' * {more}"], check=True)
    assert memory.more() > 500e6


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


@st.composite
def broken_texts(draw: st.DrawFn, whole: Sequence[str] = GOOD) -> str:
    """A good text in which some places are cut out, doubled or replaced."""
    return draw(broken_text(draw(st.sampled_from(whole))))


@st.composite
def broken_structures(draw: st.DrawFn, whole: Sequence[str] = GOOD) -> str:
    """A good text in which some values are others, of any type, or keys are added."""
    content = draw(changed(yaml.safe_load(draw(st.sampled_from(whole)))))
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


# What a recipe says has no part in how its models are asked, so few examples ask them.
CHECKS = st.sampled_from([("recipe", "check", "r.yaml", "--no-ask")] * 9 + [("recipe", "check", "r.yaml")])


@given(text=broken_texts() | st.text(max_size=200), words=CHECKS)
@bounded()
def test_any_text_as_a_recipe_is_answered(text: str, words: tuple[str, ...], place: Path):
    (place / "r.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert_answered(*words, folder=place)


CONVERT = ("recipe", "convert", "r.yaml")
DRY_RUN = ("merge", "r.yaml", "out", "--dry-run")


@given(text=broken_structures(), words=CHECKS | st.sampled_from([CONVERT, DRY_RUN]))
@bounded()
def test_any_structure_as_a_recipe_is_answered(text: str, words: tuple[str, ...], place: Path):
    (place / "r.yaml").write_text(text, encoding="utf-8")
    assert_answered(*words, folder=place)
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
ESCAPES = ["\x1b[31m", "\x07", "\u202e"]
# Nothing that could be a path to another place than the test's own.
TYPED = st.text(string.printable, max_size=8).filter(lambda text: not text.startswith(("/", "~")) and ".." not in text)
WORDS = st.sampled_from(NUMBERS + PATHS + NAMES + ESCAPES) | TYPED
SECRET = "5tr0ng-p4ss"
STORAGES = [
    *("nonsense", "sqlite:///o.db", "sqlite:///file", "sqlite:////proc/x.db", "sqlite://", "redis://127.0.0.1:1/x"),
    *(f"mysql://u:{SECRET}@h/x", f"mysql://u:{SECRET}/@@h/x", f"postgresql://h/x?password={SECRET}", f"x://:{SECRET}@"),
]
VALUES_OF = {"--storage": STORAGES, "--data": ["zoo-maths:test", "nope:test", "custom-vqa@file:test", "zoo-maths@:x"]}
OPTIONS = {
    "merge": ["--threads", "--max-shard-gb", "--dry-run"],
    "evolve": ["--trials", "--items", "--seed", "--judged", "--device", "--out", "--workers", "--sources-in"],
    "evaluate": ["--items", "--seed", "--batch", "--preset", "--device", "--data"],
    "suggest": ["--base", "--data", "--items", "--seed", "--device", "--picture"],
    "methods": ["--json"],
    "report": [],
    "export": ["--storage", "--storage", "--name"],
    "convert": ["--revision", "--max-shard-gb", "--dry-run"],
    "doctor": ["--json"],
    "app": ["--port", "--host", "--models", "--photos", "--device", "--memory-gb", "--allow-host", "--auth"],
    "recipe": ["--to", "--json", "--out", "--force", "--no-ask", "--vlms"],
    "zoo": ["--json", "--scale", "--size", "--seed", "--device", "--workers"],
    "bench": ["--model", "--task", "--preset", "--items", "--out", "--scoring", "--lid", "--predictions", "--to"],
}
# Their first positional argument is the name of a subcommand.
INNER = {
    "recipe": ["list", "show", "check", "convert", "pin"],
    "zoo": ["list", "train"],
    "bench": ["tasks", "compare", "show", "score", "leaderboard", "overlap", "run"],
}
ABOUT_A_STUDY = ("report", "export")
# What is added to a command that might be valid and take long: searches are only planned, and what cannot be planned
# is refused, because a later option replaces an earlier one.
HELD_BACK = {
    "merge": ["--dry-run"],
    "evolve": ["--dry-run", "--no-measure"],
    "app": ["--studies", "file"],
    "zoo train": ["--out", "file"],
    "bench run": ["--dry-run", "--no-measure"],
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with options and arguments of any kind, of which none starts long work."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    words = [name, *([draw(st.sampled_from(INNER[name]))] if name in INNER else [])]
    held_back = HELD_BACK.get(" ".join(words), [])
    if name in ABOUT_A_STUDY and draw(st.integers(0, 3)):
        words.append("study")
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(OPTIONS[name])) if draw(st.booleans()) and OPTIONS[name] else None
        words += [] if option is None else [option]
        likely = VALUES_OF.get(option or "")
        words.append(draw(WORDS if likely is None else st.sampled_from(likely) | WORDS))
    return [*words, *held_back]


@pytest.fixture(scope="module")
def studied(place: Path) -> Path:
    """The folder, with a study in it."""
    shutil.copytree(STUDY, place / "study")
    return place


@given(words=command_lines())
@bounded()
def test_any_option_is_answered(words: list[str], studied: Path):
    for path in studied.glob("o.db*"):
        path.unlink()
    # 1: `bench overlap` has found some.
    done = assert_answered(*words, folder=studied, codes=(0, 1, 2) if words[:2] == ["bench", "overlap"] else CODES)
    printed = done.stdout + done.stderr
    assert SECRET not in printed, (words, printed)
    assert not any(escape[0] in printed for escape in ESCAPES), (words, printed)
