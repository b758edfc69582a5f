"""Studies on the zoo: questions about evolutionary merging, each answered by one command.

`app` is that command on its own; a larger command line can add the function with `app.command("study")(study)`.
"""

from evovlm_benchmarks.studies.command import app, study

__all__ = ["app", "study"]
