"""Keeps the C heap small: glibc otherwise holds on to memory that the answering threads have freed.

Knows only glibc; does nothing with another C library.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from typing import Any

M_ARENA_MAX = -8  # of glibc's malloc.h
EVERY = 20.0  # seconds between calls of malloc_trim


def share_heaps() -> None:
    """Limit malloc to two arenas. With one arena per thread, the server grows with every request."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 2)


async def give_back() -> None:
    """Return free memory to the system every EVERY seconds, until cancelled."""
    library = _glibc()
    while library is not None:
        await asyncio.sleep(EVERY)
        await asyncio.to_thread(library.malloc_trim, 0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
