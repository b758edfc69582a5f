"""The command line: parse arguments, pick implementations, turn errors into exit codes.

No other package picks implementations. One module per command or group of commands.
"""

from evovlm.cli.program import app, main

__all__ = ["app", "main"]
