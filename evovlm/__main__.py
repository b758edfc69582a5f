"""Entry point: an interrupt exits with code 130 in every phase, even while the command line is still loading.

Knows only the name of the command line.
"""

import os
import signal
import sys
import threading
from typing import Any

INTERRUPTED = 130  # 128 plus the signal's number, the shell convention
SOON = 0.02  # seconds; the finaliser has returned by then


def main() -> None:
    """Run the command line."""
    sys.unraisablehook = _raise_again
    try:
        from evovlm.cli import main as run

        run()
    except KeyboardInterrupt:
        _leave()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _leave()
        raise


def _raise_again(lost: Any) -> None:
    """Send the interrupt again: Python ignores one that arrives inside a finaliser."""
    if lost.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        again = threading.Timer(SOON, signal.pthread_kill, (main_thread, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _leave() -> None:
    """Exit at once with code 130. After an interrupt in C code, Python would be killed by the signal instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
