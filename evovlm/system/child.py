"""What a child process does to itself: it ends with its parent, and gives up what it does not need.

Knows the system's limits; not what the child is for.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_DIE_WITH_PARENT = 1  # Linux: prctl's PR_SET_PDEATHSIG


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens; at once if it is no longer `parent`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above


def confine(more: int) -> None:
    """Allow this process `more` bytes of memory beyond what it has, no writing to files, and no further processes.

    For good: the hard limits are lowered too. Address space is limited on Linux only, where it can be measured.
    """
    import resource  # not on every system

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
