"""The command line: parse arguments, pick implementations, turn errors into exit codes.

The one place that picks implementations; one module a command or group of commands.
"""

from evovlm.cli.program import app, main

__all__ = ["app", "main"]
