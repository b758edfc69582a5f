"""Checks that a file named by a visitor was uploaded to, or made by, this server. Knows paths."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from evovlm_app.limits import Refusal


def uploaded(path: object, uploads: Path) -> Path:
    """The real path of a regular file (not a link) inside the upload folder. Raises Refusal for any other path."""
    if not isinstance(path, str) or not os.path.isabs(path):
        raise Refusal("not_uploaded")
    try:
        real = Path(os.path.realpath(path))
        inside = real.is_relative_to(os.path.realpath(uploads))
        if not inside or not stat.S_ISREG(os.lstat(path).st_mode):
            raise Refusal("not_uploaded")
    except (OSError, ValueError):
        raise Refusal("not_uploaded") from None
    return real
