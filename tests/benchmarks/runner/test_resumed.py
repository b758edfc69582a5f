"""A run that is resumed over files that are damaged, or over other images than it was begun with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command import bench
from tests.engine_calls import count_answers

MADE = Path(__file__).parent.parent.parent / "fixtures" / "studies"
NESTED = b"[" * 100_000


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, questions about pictures, and a finished run of both."""
    place = tmp_path_factory.mktemp("resumed") / "place"
    shutil.copytree(MADE, place, ignore=shutil.ignore_patterns("studies"))
    suite: dict[str, Any] = {
        "models": [{"name": name, "model": f"models/{name}"} for name in ("vlm", "ja")],
        "tasks": [{"task": "custom-vqa@data/pictures/questions.jsonl:test", "items": 4, "preset": "plain"}],
        "batch": 4,
    }
    (place / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    done = bench("run", "suite.yaml", "--out", "run", folder=place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def place(run_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_once, tmp_path / "place"))


def files_of(place: Path, kind: str) -> list[Path]:
    return sorted((place / "run" / kind).glob("vlm*"))


def without_clock(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in ("seconds", "resumed")}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"null", b"{}", b"\xff\xfe", NESTED, b'{"format": 1, "model": "vlm", "score": NaN}']
)
def test_a_damaged_result_is_named_and_made_again_from_its_answers(
    place: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked = count_answers(monkeypatch)
    (path,) = files_of(place, "results")
    whole = without_clock(path)
    path.write_bytes(damage)
    done = bench("run", "suite.yaml", "--out", "run", folder=place)
    assert done.returncode == 0, done.stderr
    assert f"run/results/{path.name}: not a result of `evovlm bench run`" in caplog.text
    assert "scored again" in caplog.text
    assert without_clock(path) == whole
    assert asked == []


@pytest.mark.parametrize("damage", [b"{}", b"x", b"3", NESTED, b'{"id": "a", "score": NaN}'])
def test_a_damaged_answer_is_named_and_given_again(
    place: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked = count_answers(monkeypatch)
    (path,), (result,) = files_of(place, "answers"), files_of(place, "results")
    lines, whole = path.read_bytes().splitlines(), without_clock(result)
    path.write_bytes(b"\n".join([*lines[:2], damage, lines[3]]) + b"\n")
    result.unlink()
    done = bench("run", "suite.yaml", "--out", "run", folder=place)
    assert done.returncode == 0, done.stderr
    assert f"run/answers/{path.name}" in caplog.text
    assert "and answered again" in caplog.text
    assert asked == [4], "a batch is asked as a whole"
    assert without_clock(result) == whole
    assert len(path.read_bytes().splitlines()) == 4


@pytest.mark.parametrize("damage", [b"", b"[]", NESTED, b"{}", b'{"batch": "x"}'])
def test_a_damaged_plan_is_an_error_that_names_it(place: Path, damage: bytes):
    (path,) = files_of(place, "plans")
    path.write_bytes(damage)
    done = bench("run", "suite.yaml", "--out", "run", folder=place)
    assert done.returncode == 2
    assert f"run/plans/{path.name}: damaged" in done.stderr
    assert "choose another folder with --out, or delete this one" in done.stderr


def other_images(place: Path) -> None:
    shown = sorted((place / "data/pictures").glob("*.png"))
    content = [path.read_bytes() for path in shown]
    for path, other in zip(shown, [*content[1:], content[0]], strict=True):
        path.write_bytes(other)


def test_answers_about_other_images_are_not_shared(place: Path):
    other_images(place)
    done = bench("run", "suite.yaml", "--out", "run", folder=place)
    assert done.returncode == 2
    assert "started with different images; choose another folder" in done.stderr
    (path,) = files_of(place, "results")
    path.unlink()
    assert bench("run", "suite.yaml", "--out", "run", folder=place).returncode == 2


def test_scores_on_other_images_are_not_compared(place: Path):
    shutil.copytree(place / "run", place / "before")
    other_images(place)
    assert bench("run", "suite.yaml", "--out", "after", folder=place).returncode == 0
    (result,) = (place / "after/results").glob("ja*")
    shutil.rmtree(place / "before/results", ignore_errors=True)
    shutil.copytree(place / "run/results", place / "before/results")
    for path in (place / "before/results").glob("ja*"):
        path.unlink()
    for path in (place / "after/results").glob("vlm*"):
        path.unlink()
    done = bench("compare", "before", "after", folder=place)
    assert done.returncode == 2
    assert result.exists()
    same = bench("compare", "run", folder=place)
    assert same.returncode == 0, same.stderr


def test_a_run_of_an_earlier_version_is_bound_to_its_images_when_it_goes_on(place: Path):
    for path in (place / "run/plans").glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["images"]
        path.write_text(json.dumps(content), encoding="utf-8")
    assert bench("run", "suite.yaml", "--out", "run", folder=place).returncode == 0
    other_images(place)
    assert bench("run", "suite.yaml", "--out", "run", folder=place).returncode == 2
