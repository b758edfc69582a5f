"""Which files a visitor may name: those that this server took or made itself, in its upload folder. Knows paths."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from evovlm_app.limits import Refusal


def uploaded(path: object, uploads: Path) -> Path:
    """The path of a regular file that lies in the upload folder itself, by no link. Raises Refusal for any other."""
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
