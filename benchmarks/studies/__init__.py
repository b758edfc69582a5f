"""Studies on the zoo: questions about evolutionary merging, each answered by one command. `app` is the command."""

from benchmarks.studies.command import app

__all__ = ["app"]
