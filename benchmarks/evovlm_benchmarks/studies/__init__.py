"""Studies on the zoo: questions about evolutionary merging, each answered by one command.

`app` is that command by itself; a larger command line takes the function: `app.command("study")(study)`.
"""

from evovlm_benchmarks.studies.command import app, study

__all__ = ["app", "study"]
