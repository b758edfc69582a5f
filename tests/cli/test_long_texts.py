"""A text of the user's is repeated in a message by its beginning, however long it is; a path stays whole."""

from pathlib import Path

import pytest

from evovlm.system.plain_text import MOST_LINE, cut_words
from tests.command import evovlm_here

LONG = "x" * 100_000
RECIPE = """\
kind: llm
base: {model: zoo:base}
sources: [{name: ja, model: zoo:ja}, {name: math, model: zoo:math}]
method: task_arithmetic
search: {density: null, SETTING}
data: {search: zoo-maths:search, validation: zoo-maths:validation, test: zoo-maths:test}
"""


def test_words_are_cut_and_paths_and_lines_of_words_are_not():
    path = "/" + "/".join(["folder" * 10] * 50)
    assert cut_words(f"error in {path}: no") == f"error in {path}: no"
    assert cut_words(f"a {LONG}\nb") == f"a {'x' * 300}... (100,000 characters)\nb"
    assert cut_words(f"/{LONG}") == f"/{'x' * 299}... (100,001 characters)"
    assert len(cut_words("a b " * 100_000)) == MOST_LINE + 3


@pytest.mark.parametrize(
    "setting", ["algorithm: X", "objectives: [X]", "objectives: ['X:search']", "options: {X: [0, 1]}"]
)
def test_a_check_cuts_long_settings(setting: str, tmp_path: Path):
    (tmp_path / "long.yaml").write_text(RECIPE.replace("SETTING", setting.replace("X", "x" * 900)))
    done = evovlm_here("recipe", "check", "long.yaml", "--no-ask", folder=tmp_path)
    assert done.returncode == 2
    assert 60 <= (done.stdout + done.stderr).count("x") < 200


@pytest.mark.parametrize(
    "words",
    [
        ("methods", LONG),
        ("suggest", LONG, "zoo:ja", "--base", "zoo:base", "--data", "zoo-maths:search"),
        ("suggest", "zoo:math", "zoo:ja", "--base", "zoo:base", "--data", f"{LONG}:search"),
        ("suggest", "zoo:math", "zoo:ja", "--base", "zoo:base", "--data", f"zoo-maths:{LONG}"),
        ("evaluate", "zoo:ja", "--data", "zoo-maths:test", "--device", LONG),
        ("evaluate", "zoo:ja", "--data", "zoo-maths:test", "--preset", LONG),
        ("evaluate", "zoo:ja", "--data", "twice.jsonl"),
        ("evaluate", "zoo:ja", "--data", "custom-maths@twice.jsonl:test"),
    ],
    ids=range(8),
)
def test_a_command_cuts_long_words(words: tuple[str, ...], tmp_path: Path):
    row = f'{{"question": "1 + 1?", "reference": "2", "id": "{"x" * 5000}"}}\n'
    (tmp_path / "twice.jsonl").write_text(2 * row)
    done = evovlm_here(*words, folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stdout + done.stderr) < 2000


def test_a_long_value_in_the_environment_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "x" * 5000)
    done = evovlm_here("zoo", "list", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: OMP_NUM_THREADS: 'xxx")
    assert len(done.stderr) < 300
