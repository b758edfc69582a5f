"""Which code made a result."""

import json
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import pytest

import evovlm
from evovlm.system.version import clone_commit, commit, installed_commit, versions

ROOT = Path(evovlm.__file__).parents[1]  # of the code that is tested


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *named, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a package at its top and a virtual environment that git ignores."""
    for name in ("evovlm/a.py", "site/evovlm/a.py", ".gitignore"):
        path = tmp_path / "clone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("site\n", encoding="utf-8")
    git(tmp_path / "clone", "init", "-q")
    git(tmp_path / "clone", "add", ".")
    git(tmp_path / "clone", "commit", "-q", "-m", "first")
    return tmp_path / "clone"


def test_a_clone_tells_its_commit_and_whether_the_package_was_changed(clone: Path):
    head = git(clone, "rev-parse", "HEAD")[:12]
    assert clone_commit(clone / "evovlm") == head
    (clone / "notes.txt").write_text("no part of the package", encoding="utf-8")
    assert clone_commit(clone / "evovlm") == head
    (clone / "evovlm" / "a.py").write_text("1\n", encoding="utf-8")
    assert clone_commit(clone / "evovlm") == f"{head}+changed"


@pytest.mark.parametrize("folder", ["app/evovlm_app", "benchmarks/evovlm_benchmarks"])
def test_a_change_of_the_app_or_the_benchmarks_is_told_too(clone: Path, folder: str):
    (clone / folder).mkdir(parents=True)
    (clone / folder / "new.py").write_text("1\n", encoding="utf-8")
    assert clone_commit(clone / "evovlm") == f"{git(clone, 'rev-parse', 'HEAD')[:12]}+changed"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_this_clone_tells_its_own_commit():
    assert commit().removesuffix("+changed") == git(ROOT, "rev-parse", "HEAD")[:12]


def test_a_package_installed_within_somebodys_clone_is_not_of_that_clone(clone: Path, tmp_path: Path):
    assert clone_commit(clone / "site" / "evovlm") is None
    assert clone_commit(tmp_path / "nowhere" / "evovlm") is None


def installed(folder: Path, origin: str | None) -> Distribution:
    folder.mkdir()
    (folder / "RECORD").write_text("evovlm/a.py,sha256=x,1\n", encoding="utf-8")
    if origin is not None:
        (folder / "direct_url.json").write_text(origin, encoding="utf-8")
    return Distribution.at(folder)


def test_an_installed_package_tells_the_commit_that_it_came_from_or_its_record(tmp_path: Path):
    origin = json.dumps({"url": "x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}})
    assert installed_commit(installed(tmp_path / "a.dist-info", origin)) == "0123456789ab"
    recorded = installed_commit(installed(tmp_path / "b.dist-info", None))
    assert recorded.startswith("record-")
    assert recorded != installed_commit(Distribution.at(tmp_path / "none.dist-info"))


def test_every_result_carries_the_commit():
    assert versions()["commit"] == commit() != "unknown"
