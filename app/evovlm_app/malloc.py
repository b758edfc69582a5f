"""The C library's heap, kept small: threads that answer leave freed memory behind that it would keep.

Knows glibc alone, and does nothing where there is another.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from typing import Any

M_ARENA_MAX = -8  # of glibc's malloc.h
EVERY = 20.0  # seconds between returns of what is free


def share_heaps() -> None:
    """Let all threads share two heaps. Otherwise each has its own, and the server grows with every request."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 2)


async def give_back() -> None:
    """Give what is free back to the system from time to time, until cancelled."""
    library = _glibc()
    while library is not None:
        await asyncio.sleep(EVERY)
        await asyncio.to_thread(library.malloc_trim, 0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
