"""The command's door: an interrupt ends with exit code 130 in any phase, also while the command line still loads.

Knows the command line's name alone.
"""

import os
import sys

INTERRUPTED = 130  # 128 and the number of the signal, as shells count


def main() -> None:
    """Run the command line."""
    try:
        from evovlm.cli import main as run

        run()
    except KeyboardInterrupt:
        _leave()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _leave()
        raise


def _leave() -> None:
    """End at once, as 130: where an interrupt came through C code, Python would end by the signal instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
