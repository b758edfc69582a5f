from pathlib import Path

import pytest

from tests.report.study_folder import make_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study."""
    return make_study(tmp_path / "study")
