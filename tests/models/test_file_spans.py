"""Spans are read whole, in pieces, into their own memory; what cannot be read is refused in a sentence."""

import os
from pathlib import Path

import pytest

from evovlm.models import file_spans
from evovlm.models.file_spans import FileSpan, read_spans
from evovlm.system.errors import CheckpointError


def test_each_span_is_in_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_spans, "PIECE", 1000)
    content = [os.urandom(20_000), os.urandom(700)]
    files = [tmp_path / "a", tmp_path / "b"]
    for file, data in zip(files, content, strict=True):
        file.write_bytes(data)
    spans = [FileSpan(files[0], 3, 12_345), FileSpan(files[1], 0, 700), FileSpan(files[0], 19_999, 1)]
    memory = [bytearray(span.nbytes) for span in spans]
    read_spans([(span, memoryview(one)) for span, one in zip(spans, memory, strict=True)])
    assert memory == [content[0][3:12_348], content[1], content[0][19_999:]]


@pytest.mark.parametrize(("length", "said"), [(9, "has become shorter"), (None, "cannot be read")])
def test_a_file_that_is_cut_or_gone_is_named(tmp_path: Path, length: int | None, said: str):
    file = tmp_path / "weights"
    if length is not None:
        file.write_bytes(bytes(length))
    with pytest.raises(CheckpointError, match=f"weights {said}"):
        read_spans([(FileSpan(file, 0, 10), memoryview(bytearray(10)))])
