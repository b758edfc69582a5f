"""End a process with its parent, however the parent ends. Knows only Linux; elsewhere it does nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PDEATHSIG = 1  # prctl's PR_SET_PDEATHSIG


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends. Exits at once if it is no longer `parent`."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
