"""Fixtures for tests that run whole searches with the smallest models."""

import shutil
from pathlib import Path

import pytest

from tests.engine_calls import count_answers
from tests.evolution.small_studies import MADE, evolve


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, data and recipes, and a finished study, `s`."""
    ignored = shutil.ignore_patterns("studies")
    place = Path(shutil.copytree(MADE, tmp_path_factory.mktemp("small") / "made", ignore=ignored))
    evolve(place, "s")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of all that, for the test alone."""
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the engine made."""
    return count_answers(monkeypatch)
