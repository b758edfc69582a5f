"""The header of a safetensors file: which tensors it holds and where, compared with the file's length.

Knows one file; no folders, indices or models.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from evovlm.models.checkpoint_writer import DTYPE_CODES, TensorInfo
from evovlm.system.bounded_files import Unreadable, open_regular
from evovlm.system.bounded_json import BadValue, parse_strictly, shown
from evovlm.system.errors import CheckpointError

# The format allows 100 MB. The largest that we know, of 90,000 tensors in one file, would have 12 MB.
MOST_HEADER_BYTES = 16 * 2**20
MOST_TENSORS = 100_000
# torch cannot count more elements, and handles few tensors of more dimensions.
MOST_ELEMENTS = 2**63 - 1
MOST_DIMENSIONS = 16
# Names of tensors are paths of modules; a number in one is a layer or an expert.
MOST_NAME = 1000
LONG_NUMBER = re.compile(r"\d{7}")
# A clone made without Git LFS has small text files in place of the weights.
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
_DTYPES = {code: dtype for dtype, code in DTYPE_CODES.items()}
RESUME = "fetch the file again"


def read_header(path: Path) -> list[tuple[TensorInfo, int]]:
    """The tensors that a safetensors file declares, with their byte offsets, verified against the file's length.

    Raises CheckpointError if it is not a safetensors file, is truncated, has overlapping or missing bytes, or an
    unknown dtype.
    """
    header, size = _leading_bytes(path)
    try:
        table = parse_strictly(header.decode("utf-8"))
        if not isinstance(table, dict):
            raise BadValue("it is not an object")
        if not isinstance(table.pop("__metadata__", {}), dict):
            raise BadValue("`__metadata__` is not an object")
        if len(table) > MOST_TENSORS:
            raise BadValue(f"{len(table):,} tensors, more than the {MOST_TENSORS:,} that any known model has in a file")
        infos = {name: _info(path, name, row) for name, row in table.items()}
        spans = sorted((*_offsets(name, table[name]), name) for name in table)
    except CheckpointError:
        raise
    except (BadValue, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}); {RESUME}") from None
    data = size - 8 - len(header)
    _verify_spans(path, [(start, stop, infos[name]) for start, stop, name in spans], data)
    starts = {name: start for start, _, name in spans}
    return [(infos[name], 8 + len(header) + starts[name]) for name in table]


def _leading_bytes(path: Path) -> tuple[bytes, int]:
    """The header without its length, and the file's size in bytes."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            if first == LFS_POINTER[:8]:
                raise CheckpointError(f"{path} is a Git LFS pointer, not the file; fetch it with `git lfs pull`")
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 2 <= length <= MOST_HEADER_BYTES:
                raise CheckpointError(f"{path} is not a safetensors file (its header length is {length}); {RESUME}")
            header = file.read(length)
    except Unreadable as error:
        raise CheckpointError(f"{error}; {RESUME}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {RESUME}") from error
    if len(header) < length:
        raise CheckpointError(f"{path} is truncated inside its header ({size} bytes); {RESUME}")
    if not header.startswith(b"{"):
        raise CheckpointError(f"{path} has a damaged header (it does not begin with an object); {RESUME}")
    return header, size


def _info(path: Path, name: str, row: Any) -> TensorInfo:
    if not name.isprintable() or not 1 <= len(name) <= MOST_NAME or LONG_NUMBER.search(name):
        raise BadValue(f"the key `{shown(ascii(name))}` cannot name a tensor")
    if not isinstance(row, dict):
        raise BadValue(f"`{shown(name)}` is not an object")
    dtype, shape = row.get("dtype"), row.get("shape")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(f"{path}: {name} has the unknown dtype {shown(dtype)}; known are {sorted(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(extent) is int and extent >= 0 for extent in shape):
        raise BadValue(f"`{name}.shape` is {shown(shape)}, not a list of whole numbers")
    # torch multiplies the extents one by one, and stops at an overflow even if another extent is zero.
    if len(shape) > MOST_DIMENSIONS or prod(max(extent, 1) for extent in shape) > MOST_ELEMENTS:
        raise BadValue(f"`{name}.shape` is {shown(shape)}, which no tensor has")
    return TensorInfo(name, tuple(shape), _DTYPES[dtype])


def _offsets(name: str, row: dict[str, Any]) -> tuple[int, int]:
    found = row.get("data_offsets")
    if not isinstance(found, list) or len(found) != 2 or not all(type(one) is int and one >= 0 for one in found):
        raise BadValue(f"`{name}.data_offsets` is {shown(found)}, not two whole numbers")
    return found[0], found[1]


def _verify_spans(path: Path, spans: Iterable[tuple[int, int, TensorInfo]], data: int) -> None:
    """Check that the tensors' bytes have no gaps or overlaps and that the file ends with the last one."""
    end = 0
    for start, stop, info in spans:
        if start != end or stop - start != info.nbytes:
            raise CheckpointError(
                f"{path}: bytes {start}-{stop} cannot be {info.name} of shape {list(info.shape)}; {RESUME}"
            )
        end = stop
    if end != data:
        kind = "is truncated" if end > data else "has bytes after its last tensor"
        raise CheckpointError(f"{path} {kind}: {data} bytes of data, but its header declares {end}; {RESUME}")
