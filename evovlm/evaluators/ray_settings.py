"""Whether Ray can be loaded with the variables of this environment, before it is.

Knows no Ray: its compiled part ends the process while it is imported, if a variable such as
`RAY_gcs_server_request_timeout_seconds` is no number where one is due.
"""

from __future__ import annotations

import os
import subprocess
import sys

from evovlm.system.errors import UserError

PREFIX = "RAY_"
# Texts to Ray, which cannot be of the wrong kind.
HARMLESS = frozenset(("RAY_ADDRESS", "RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED", "RAY_CLIENT_MODE"))
LONGEST = 120.0  # seconds


def refuse_settings() -> None:
    """Raise UserError, naming the variables, if Ray ends a process that imports it with those that are set now.

    Takes no time if there are none, and else as long as the import.
    """
    names = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in HARMLESS)
    if not names:
        return
    command = [sys.executable, "-P", "-c", "import ray"]
    try:
        ended = subprocess.run(command, capture_output=True, check=False, timeout=LONGEST).returncode
    except subprocess.TimeoutExpired:
        return
    if ended < 0:  # by a signal: an exception would be told later
        raise UserError(
            f"{', '.join(names[:6])}: Ray ends a process that loads it with this in the environment (signal {-ended});"
            " correct or unset it"
        )
