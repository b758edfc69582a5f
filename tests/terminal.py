"""Commands in a terminal of their own, as wide as a test wants it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Seen:
    """What a person saw: the exit code, and all lines that were drawn, those that were drawn over too."""

    returncode: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def widest(self) -> str:
        """The line that takes the most columns; a Japanese character takes two."""
        return max(self.lines, key=cell_len)


def in_terminal(*words: str, folder: Path, columns: int, rows: int = 50) -> Seen:
    """`evovlm WORDS` in a terminal."""
    return python_in_terminal("-P", "-m", "evovlm", *words, folder=folder, columns=columns, rows=rows)


def python_in_terminal(*words: str, folder: Path, columns: int, rows: int = 50) -> Seen:
    """`python WORDS` in a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    text = CONTROL.sub("", b"".join(parts).decode("utf-8", "replace"))
    return Seen(process.wait(60), tuple(line.rstrip() for line in re.split(r"[\r\n]+", text)))
