"""The child process of `_pickle_reader`: reads pickle checkpoints through torch's weights-only loader, confined.

Run as `python -m evovlm.models._pickle_child FD PARENT BYTES`: a socket to the parent, the parent's process id, and the
bytes of the largest file that it will be asked to read. Requests and replies are JSON, tensors raw bytes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evovlm.system.child import confine, die_with_parent

PIECE = 2**24  # bytes sent or summed at a time
# Memory beyond two files: a legacy file is read whole, and a tensor that lies strided in it is copied.
SPARE = 2**29
# Tensors of a file may hold more bytes than the file, but only by expanded views, which are small in real checkpoints.
EXPANDED = 2**26
ASKED_FOR = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
OUT_OF_MEMORY = ("allocate", "bad_alloc", "not enough memory")


class Refused(Exception):
    """A file that is not plain weights; the message is the rest of a sentence that begins with the file's name."""


def main(descriptor: int, parent: int, largest: int) -> None:
    """Serve requests until the parent closes the socket."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends this process
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pipe = Connection(descriptor)
    confine(2 * largest + SPARE)
    loaded: tuple[str, dict[str, Any]] | None = None
    while True:
        try:
            asked = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        path = asked["path"]
        try:
            if asked["do"] == "check":
                for count in check_sums(Path(path)):
                    _tell(pipe, {"read": count})
                _tell(pipe, {"done": True})
                continue
            if loaded is None or loaded[0] != path:
                loaded = None  # freed before the next is loaded
                loaded = path, load(Path(path))
            if asked["do"] == "list":
                _tell(pipe, {"tensors": list(rows(loaded[1], os.path.getsize(path)))})
            else:
                _send(pipe, loaded[1], asked["names"])
        except Refused as refused:
            _tell(pipe, {"refused": str(refused)})
        except (MemoryError, OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
            _tell(pipe, {"refused": in_words(error)})


def load(path: Path) -> dict[str, Any]:
    """The state dict of one file; its tensors are mapped where the format allows. Raises Refused."""
    import torch

    zipped = is_zipped(path)
    if zipped:
        _refuse_compressed(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged pickles raise anything
        raise Refused(in_words(error)) from error
    if not isinstance(loaded, dict):
        raise Refused(f"holds one {type(loaded).__name__}, not tensors by name; give a checkpoint's state dict")
    return loaded


def is_zipped(path: Path) -> bool:
    """Whether a file is torch's zip format; False: its older one. Raises Refused if it is neither."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"PK\x03\x04"):
        return True
    if start.startswith(b"version https://git-lfs"):
        raise Refused("is a Git LFS pointer, not the file; fetch it with `git lfs pull`")
    if start[257:262] == b"ustar":
        raise Refused("is in the tar format of torch before 0.1.10, which cannot be read safely; save it again")
    if not start.startswith(b"\x80"):
        raise Refused("is not a file of torch.save; fetch it again")
    return False


def _refuse_compressed(path: Path) -> None:
    """Refuse a zip file with compressed records: torch.save writes none, and few bytes could become many."""
    try:
        with zipfile.ZipFile(path) as archive:
            odd = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Refused(f"is damaged or truncated ({error}); fetch it again") from error
    if odd:
        raise Refused(f"has compressed records ({odd[0]}), which torch.save never writes; fetch it again")


def check_sums(path: Path) -> Iterator[int]:
    """Compare every record of a zipped file with its checksum, yielding the numbers of bytes read. Raises Refused.

    torch does not check them. Records without a checksum (zero: torch.save can be told to write none) are passed over,
    and so is the older format, which has none.
    """
    if not is_zipped(path):
        return
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
            file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
            found, left = 0, info.file_size
            while left and info.CRC:
                piece = file.read(min(left, PIECE))
                if not piece:
                    break
                found = zlib.crc32(piece, found)
                left -= len(piece)
                yield len(piece)
            if info.CRC and (left or found != info.CRC):
                raise Refused(f"is damaged: its record {info.filename} differs from its checksum; fetch it again")


def rows(loaded: Mapping[str, Any], size: int) -> Iterator[list[Any]]:
    """Name, dtype, shape of each tensor, and the name of an earlier one that is the same memory, or None.

    Raises Refused for the first value that is not a plain tensor, and if the tensors are larger than a file of `size`
    bytes can hold.
    """
    seen: dict[Any, str] = {}
    total = 0
    for name, value in loaded.items():
        _refuse_odd(name, value)
        place = (value.data_ptr(), value.dtype, value.shape, value.stride()) if value.numel() else name
        first = seen.setdefault(place, name)
        if first == name:
            total += value.numel() * value.itemsize
        if total > 2 * size + EXPANDED:
            raise Refused(f"declares tensors of {total:,} bytes, more than its {size:,} bytes can hold; do not use it")
        yield [name, str(value.dtype).removeprefix("torch."), list(value.shape), None if first == name else first]


def _refuse_odd(name: object, value: Any) -> None:
    import torch

    if not isinstance(name, str) or not name or name == "__metadata__" or name != name.encode(errors="ignore").decode():
        raise Refused(f"has the key {name!r:.80}, which cannot name a tensor; give a checkpoint's state dict")
    kind = type(value)
    if kind not in (torch.Tensor, torch.nn.Parameter):
        raise Refused(f"holds a {kind.__name__} as {name}, not a tensor; save the model's state dict by itself")
    if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_nested:
        how = "quantised" if value.is_quantized else f"{value.layout} on {value.device.type}".replace("torch.", "")
        raise Refused(f"holds {name} as a {how} tensor; only dense tensors can be converted")


def _send(pipe: Connection, loaded: Mapping[str, Any], names: list[str]) -> None:
    """Send tensors in the order of their names: a line each, then the bytes in pieces."""
    import torch

    for name in names:
        flat = loaded[name].detach().resolve_neg().contiguous().reshape(-1)
        _tell(pipe, {"tensor": name})
        raw = memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
        for start in range(0, len(raw), PIECE):
            pipe.send_bytes(raw[start : start + PIECE])


def in_words(error: Exception) -> str:
    """An exception of torch's loader as the rest of a sentence."""
    text = str(error)
    asked = ASKED_FOR.search(text)
    if asked:
        return (
            f"asks for {asked[1]} when it is loaded, which weights do not need; nothing of it was run. Do not use it;"
            " get the weights from somebody you trust"
        )
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return "needs far more memory than a file of its size should; it is damaged, or made to exhaust memory"
    first = next((line for line in reversed(text.splitlines()) if "Error:" in line), text.partition("\n")[0])
    return f"cannot be read as weights ({type(error).__name__}: {first[:200]}); fetch it again"


def _tell(pipe: Connection, content: Mapping[str, Any]) -> None:
    pipe.send_bytes(json.dumps(content).encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
