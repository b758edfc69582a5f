"""Reads pickle checkpoints without unpickling here: a confined child process does it, and sends names and bytes.

Knows processes and limits; not how a checkpoint is made of files. What the child sends is checked like any input.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from multiprocessing import BufferTooShort
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from evovlm.models.checkpoint_writer import DTYPE_CODES, TensorInfo
from evovlm.system.child_process import start_child
from evovlm.system.errors import CheckpointError

CHILD = "evovlm.models._pickle_child"
MOST_REPLY_BYTES = 100_000_000  # as long as a header of safetensors may be
# Seconds that any reply may take: to start and to look at small files, and more by the bytes that have to be read.
LEAST_SECONDS = 60.0
SLOWEST_DISK = 20e6  # bytes per second


@dataclass(frozen=True)
class Listed:
    """One tensor of a file. `same_as`: an earlier tensor of the file that is the same memory, None if there is none."""

    info: TensorInfo
    same_as: str | None


class PickleReader:
    """Reads pickle files in one confined child process, which ends with the block, or with this process.

    largest: bytes of the largest file; the child may use about twice as much memory. seconds: the least time a reply
    may take. Every method raises CheckpointError, naming the file, if it is not plain weights or exceeds the limits.
    """

    def __init__(self, largest: int, seconds: float = LEAST_SECONDS) -> None:
        self._largest, self._seconds = largest, seconds
        self._late = False

    def __enter__(self) -> Self:
        self._process, self._pipe = start_child(CHILD, str(self._largest))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def tensors_of(self, path: Path) -> list[Listed]:
        """Name, dtype and shape of each tensor of a file."""
        reply = self._ask(path, "list")
        try:
            return [_listed(row) for row in reply["tensors"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}; only dense tensors of the usual dtypes can be converted") from None

    def check_sums(self, path: Path) -> Iterator[int]:
        """Compare a file with its checksums; yields the numbers of bytes that were read since the last."""
        reply = self._ask(path, "check")
        while not reply.get("done"):
            yield int(reply["read"])
            reply = self._reply(path)

    def read(self, path: Path, infos: Sequence[TensorInfo]) -> Iterator[Tensor]:
        """The tensors that `infos` declare, one after another."""
        self._tell(path, "send", names=[info.name for info in infos])
        for info in infos:
            self._reply(path)
            raw = bytearray(info.nbytes)
            filled = 0
            while filled < info.nbytes:
                with self._in_time(path):
                    filled += self._pipe.recv_bytes_into(raw, filled)
            flat = torch.frombuffer(raw, dtype=info.dtype) if raw else torch.empty(0, dtype=info.dtype)
            yield flat.reshape(info.shape)

    def _ask(self, path: Path, what: str) -> dict[str, Any]:
        self._tell(path, what)
        return self._reply(path)

    def _tell(self, path: Path, what: str, **more: Any) -> None:
        with self._in_time(path):
            self._pipe.send_bytes(json.dumps({"do": what, "path": str(path.absolute()), **more}).encode())

    def _reply(self, path: Path) -> dict[str, Any]:
        with self._in_time(path):
            reply = json.loads(self._pipe.recv_bytes(MOST_REPLY_BYTES))
        assert isinstance(reply, dict)
        if "refused" in reply:
            raise CheckpointError(f"{path} {reply['refused']}")
        return reply

    @contextmanager
    def _in_time(self, path: Path) -> Iterator[None]:
        """End the child if the block takes too long, and tell how it ended if it did."""
        seconds = self._seconds + path.stat().st_size / SLOWEST_DISK
        timer = threading.Timer(seconds, self._stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError, BufferTooShort, ValueError) as error:
            code = self._ended()
            if self._late:
                how = f"took longer than {seconds:.0f} s to read, far too long for its size; it is damaged, or made to"
            elif code < 0:
                name = signal.Signals(-code).name
                how = f"ended the process that read it ({name}); memory ran out, or the file is damaged or made to"
            else:
                how = f"cannot be read: the process for it ended with exit code {code}; look for a fault of the"
                how += " installation with `evovlm doctor`"
            raise CheckpointError(f"{path} {how}") from error
        finally:
            timer.cancel()

    def _ended(self) -> int:
        """The child's exit code; a child that sent something else than a reply is ended."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()


def _listed(row: Any) -> Listed:
    """One row of the child's list. Raises ValueError or TypeError if it is not one, or of a dtype without a name."""
    name, code, shape, same_as = row
    dtype = getattr(torch, str(code), None)
    if dtype not in DTYPE_CODES:
        raise ValueError(f"{name} has dtype {code}")
    extents = tuple(map(int, shape))
    if not isinstance(name, str) or any(extent < 0 for extent in extents) or prod(extents) >= 2**63:
        raise ValueError(f"{name!r} has shape {shape}")
    return Listed(TensorInfo(name, extents, dtype), same_as)
