"""The command's door: an interrupt ends with exit code 130 in any phase, also while the command line still loads.

Knows the command line's name alone.
"""

import os
import signal
import sys
import threading
from typing import Any

INTERRUPTED = 130  # 128 and the number of the signal, as shells count
SOON = 0.02  # seconds, by when the finaliser is left


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
    """Python goes on after an interrupt that lands in a finaliser: then it comes once more, outside."""
    if lost.exc_type is KeyboardInterrupt:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        again = threading.Timer(SOON, signal.pthread_kill, (main_thread, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _leave() -> None:
    """End at once, as 130: where an interrupt came through C code, Python would end by the signal instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
