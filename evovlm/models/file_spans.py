"""Reads parts of weights' files into memory, in large pieces and with several threads.

Knows files and bytes; no tensors' names, shapes or dtypes. A mapped file is read page by page, when each page is first
touched; from the system's cache of files, copying whole pieces is several times as fast.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from evovlm.system.bounded_files import Unreadable, open_regular
from evovlm.system.errors import CheckpointError

PIECE = 1 << 24  # bytes that a thread reads at a time
MOST_READERS = 8  # more threads only wait for memory bandwidth


@dataclass(frozen=True)
class FileSpan:
    """Consecutive bytes of a file."""

    file: Path
    offset: int
    nbytes: int


def read_spans(wanted: Sequence[tuple[FileSpan, memoryview]]) -> None:
    """Read each span into its memory: as many bytes, writable. Raises CheckpointError if a file cannot be read."""
    pieces = [piece for span, memory in wanted for piece in _pieces(span, memory)]
    readers = min(MOST_READERS, os.cpu_count() or 1, len(pieces))
    if readers <= 1:
        for piece in pieces:
            _read(piece)
        return
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(_read, pieces))


def _pieces(span: FileSpan, memory: memoryview) -> Iterator[tuple[FileSpan, memoryview]]:
    for start in range(0, span.nbytes, PIECE):
        count = min(PIECE, span.nbytes - start)
        yield FileSpan(span.file, span.offset + start, count), memory[start : start + count]


def _read(piece: tuple[FileSpan, memoryview]) -> None:
    span, memory = piece
    try:
        with open_regular(span.file) as file:
            done = 0
            while done < span.nbytes:
                count = os.preadv(file.fileno(), [memory[done:]], span.offset + done)
                if not count:
                    raise CheckpointError(f"{span.file} has become shorter while it was read; download it again")
                done += count
    except (OSError, Unreadable) as error:
        raise CheckpointError(f"{span.file} cannot be read ({error}); check the disk, or download it again") from error
