"""Sources for a GPU merge, part by part: kept in device memory, or streamed there while earlier parts are merged.

Knows flat tensors, places and streams; no recipes, methods or densities. A part's streamed tensors form one block, in
host memory and on the device, so that one copy transfers them; a few blocks on the device are used in rotation.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evovlm.merging.live.placement import Place
from evovlm.models.file_spans import FileSpan, read_spans

ALIGN = 256  # bytes, the alignment of the device's own allocations
SLOTS = 3  # one being merged, one ready, one being transferred; two or one if memory is short


@dataclass(frozen=True)
class Wanted:
    """One tensor of a part: its name, number of elements, dtype and place, and how to read it (flat, any device).

    span: where a file has just these bytes, from which they are read faster.
    """

    name: tuple[str, str]  # the job's name, and the model's label or a name derived from it
    count: int
    dtype: torch.dtype
    place: Place
    read: Callable[[], Tensor]
    span: FileSpan | None = None


@dataclass
class _Block:
    """Tensors in one block of bytes: the offset of each, and the total bytes."""

    wanted: list[Wanted]
    offsets: list[int] = field(default_factory=list)
    nbytes: int = 0

    def __post_init__(self) -> None:
        for one in self.wanted:
            self.offsets.append(self.nbytes)
            self.nbytes += -(-one.count * one.dtype.itemsize // ALIGN) * ALIGN

    def views(self, memory: Tensor) -> dict[tuple[str, str], Tensor]:
        """Views of each tensor's elements in a uint8 block, by name."""
        return {
            one.name: memory[offset : offset + one.count * one.dtype.itemsize].view(one.dtype)
            for one, offset in zip(self.wanted, self.offsets, strict=True)
        }

    def fill(self, memory: Tensor) -> None:
        """Read every tensor into its place in the block."""
        views, spans = self.views(memory), []
        for one, offset in zip(self.wanted, self.offsets, strict=True):
            nbytes = one.count * one.dtype.itemsize
            if memory.device.type == "cpu" and one.span is not None and one.span.nbytes == nbytes:
                spans.append((one.span, memoryview(memory[offset : offset + nbytes].numpy().data)))
            else:
                views[one.name].copy_(one.read())
        read_spans(spans)


class Feed:
    """Provides the parts' tensors on the device, one part after another.

    room: bytes that blocks of streamed parts may take on the device. The addresses of `tensors(part)` never change. For
    each candidate call `begin`, then for each part in order: `ready`, the work on the current stream, `done`.
    Raises MemoryError if host memory cannot be pinned.
    """

    def __init__(self, parts: Sequence[Sequence[Wanted]], device: torch.device, room: float = math.inf) -> None:
        self._cuda = device.type == "cuda"
        self._registered: list[int] = []
        weakref.finalize(self, _unpin, self._registered)
        self._device = device
        self._memory: list[Tensor] = []
        self._resident: list[dict[tuple[str, str], Tensor]] = []
        streamed = []
        for wanted in parts:
            block = _Block([one for one in wanted if one.place == "gpu"])
            memory = self._device_bytes(block.nbytes)
            block.fill(memory)
            self._memory.append(memory)
            self._resident.append(block.views(memory))
            streamed.append(
                (
                    _Block([one for one in wanted if one.place == "host"]),
                    _Block([one for one in wanted if one.place == "disk"]),
                )
            )
        self._host = [self._pinned(block) for block, _ in streamed]
        self._disk = [block for _, block in streamed]
        self._blocks = [block for block, _ in streamed]
        largest = max((host.nbytes + disk.nbytes for host, disk in streamed), default=0)
        slots = int(max(1, min(SLOTS, room // largest))) if largest else 0
        self._slots = [self._device_bytes(largest) for _ in range(slots)]
        most_disk = max((block.nbytes for block in self._disk), default=0)
        self._staging = [self._host_bytes(most_disk) for _ in range(slots if most_disk else 0)]
        self._side = _stream(device) if self._cuda and self._slots else None
        self._copied: list[torch.cuda.Event | None] = [None] * slots
        self._used: list[torch.cuda.Event | None] = [None] * slots

    @property
    def streams(self) -> bool:
        """Whether any part is streamed from host memory or disk."""
        return bool(self._slots)

    @property
    def device_bytes(self) -> int:
        """Bytes of the tensors and slots on the device."""
        return sum(memory.nbytes for memory in (*self._memory, *self._slots))

    def tensors(self, part: int) -> dict[tuple[str, str], Tensor]:
        """Return a part's tensors by name, flat, on the device; streamed ones are valid between `ready` and `done`."""
        found = dict(self._resident[part])
        if self._slots:
            slot, host = self._slots[part % len(self._slots)], self._blocks[part].nbytes
            found |= self._blocks[part].views(slot)
            found |= self._disk[part].views(slot[host:])
        return found

    def begin(self) -> None:
        """Start streaming the first parts of a candidate."""
        if self._slots:
            for part in range(min(len(self._slots), len(self._host))):
                self._copy(part)

    def ready(self, part: int) -> None:
        """Make the current stream wait until a part's tensors have arrived."""
        event = self._copied[part % len(self._slots)] if self._slots else None
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    def done(self, part: int) -> None:
        """Allow a later part to reuse this part's slot once the current stream has reached this point."""
        if not self._slots:
            return
        if self._cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self._device))
            self._used[part % len(self._slots)] = event
        if part + len(self._slots) < len(self._host):
            self._copy(part + len(self._slots))

    def _copy(self, part: int) -> None:
        slot = self._slots[part % len(self._slots)]
        host, disk = self._blocks[part].nbytes, self._disk[part]
        staged = self._stage(part) if disk.nbytes else None
        if self._side is None:
            _copy_bytes(slot, self._host[part], 0)
            _copy_bytes(slot, staged, host)
            return
        used = self._used[part % len(self._slots)]
        with torch.cuda.stream(self._side):
            if used is not None:
                self._side.wait_event(used)
            _copy_bytes(slot, self._host[part], 0)
            _copy_bytes(slot, staged, host)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._side)
        self._copied[part % len(self._slots)] = event

    def _stage(self, part: int) -> Tensor:
        """Read a part's memory-mapped tensors into pinned memory, after the previous copy from it has finished."""
        earlier = self._copied[part % len(self._slots)]
        if earlier is not None:
            earlier.synchronize()
        staging = self._staging[part % len(self._slots)]
        self._disk[part].fill(staging)
        return staging[: self._disk[part].nbytes]

    def _pinned(self, block: _Block) -> Tensor | None:
        if not block.nbytes:
            return None
        memory = self._host_bytes(block.nbytes)
        block.fill(memory)
        return memory

    def _host_bytes(self, count: int) -> Tensor:
        """Pinned host memory of exactly `count` bytes (torch itself rounds pinned memory up to powers of two)."""
        memory = torch.empty(count, dtype=torch.uint8)
        if self._cuda and count:
            code = int(_runtime().cudaHostRegister(memory.data_ptr(), count, 0))
            if code:
                raise MemoryError(
                    f"{count:,} bytes of host memory could not be pinned (CUDA error {code}); use --sources-in disk"
                )
            self._registered.append(memory.data_ptr())
        return memory

    def _device_bytes(self, count: int) -> Tensor:
        return torch.empty(count, dtype=torch.uint8, device=self._device)


def _copy_bytes(slot: Tensor, block: Tensor | None, offset: int) -> None:
    if block is not None:
        slot[offset : offset + len(block)].copy_(block, non_blocking=True)


def _unpin(addresses: Sequence[int]) -> None:
    for address in addresses:
        _runtime().cudaHostUnregister(address)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
