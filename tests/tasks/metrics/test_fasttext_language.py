"""With a model of three languages and a few sentences, of the format of lid.176, made for this test."""

import sys
from pathlib import Path

import pytest

from evovlm.system.errors import DataError
from evovlm.tasks.metrics.fasttext_language import fasttext_detector

TINY = Path(__file__).parent.parent.parent / "fixtures" / "fasttext" / "tiny.bin"


@pytest.mark.parametrize(
    ("text", "japanese"),
    [("猫が走ります", True), ("the cat runs", False), ("孩子们在公园", False), ("猫が\n走ります", True)],
)
def test_the_models_word_decides(text: str, japanese: bool):
    assert fasttext_detector(TINY)(text) is japanese


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        fasttext_detector(tmp_path / "lid.176.ftz")


def test_a_file_of_another_kind_is_told(tmp_path: Path):
    path = tmp_path / "lid.176.ftz"
    path.write_bytes(b"no model at all")
    with pytest.raises(DataError, match="not a fastText model"):
        fasttext_detector(path)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(DataError, match=r"evovlm\[lid\]"):
        fasttext_detector(TINY)
