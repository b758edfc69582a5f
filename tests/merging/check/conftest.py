"""Models for the tests of the checks."""

from pathlib import Path
from typing import Any

import pytest

from tests.hub_layouts import save_llm
from tests.merging.check.checking import SMALL, Save


@pytest.fixture(scope="module")
def paper(paper: dict[str, Path]) -> Path:
    """The folder that recipes here name the paper's models in."""
    return paper["base"].parent


@pytest.fixture
def zoo(tmp_path: Path) -> Save:
    """Saves a small language model under a name; `config` overrides its configuration."""

    def save(name: str, **config: Any) -> Path:
        return save_llm(tmp_path / name, **({"rows": 1000, "tokenizer": SMALL} | config))

    return save
