"""Shared by the tests of live merges."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def paper(paper_of_few_tokens: dict[str, Path]) -> dict[str, Path]:
    """Rows of a vocabulary are matched before these merges; few make them quick."""
    return paper_of_few_tokens
