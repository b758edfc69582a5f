"""Maps a file into memory without keeping it open, so that any number of shards needs no more descriptors than one.

Knows the C library's mmap; not what a file holds. Python's own mmap keeps a descriptor while the mapping lives.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import open_regular

# Private writable mappings count as committed memory, so mapping a file larger than the machine's memory would be
# refused. We never write to them, so nothing need be reserved. (Python has this flag since 3.13; 0x4000 is Linux's.)
_UNPROMISED = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
_FAILED = ctypes.c_void_p(-1).value


def mapped(path: Path) -> Any:
    """A file's bytes as a writable buffer, mapped privately: torch requires such ones, and writes never reach the file.

    Unmapped when nothing refers to the buffer any more. Raises OSError or Unreadable if the file cannot be mapped.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        address = _library().mmap(None, size, protection, mmap.MAP_PRIVATE | _UNPROMISED, file.fileno(), 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    buffer = (ctypes.c_ubyte * size).from_address(address)
    # At exit the system unmaps everything; another finaliser may still read it then.
    weakref.finalize(buffer, _library().munmap, address, size).atexit = False
    return buffer


@cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library
