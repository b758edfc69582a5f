"""Check the path of mergekit-yaml before any work. Knows the option `--mergekit`; does not start the program."""

from __future__ import annotations

import os
from pathlib import Path

from evovlm.system.errors import UserError


def mergekit_program(path: Path | None) -> Path | None:
    """The absolute path of a program given by `--mergekit`; None if there is none given.

    Absolute, because a bare name would be looked for in PATH. Raises UserError if it is no file that may be executed.
    """
    if path is None:
        return None
    if not path.is_file():
        raise UserError(f"--mergekit {path}: no such file; give the path of mergekit-yaml")
    if not os.access(path, os.X_OK):
        raise UserError(f"--mergekit {path}: is not executable; give the path of mergekit-yaml")
    return path.absolute()
