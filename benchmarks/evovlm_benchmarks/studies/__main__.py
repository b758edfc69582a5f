"""Run only the studies: `python -m evovlm_benchmarks.studies NAME`."""

from evovlm.cli.entry import run
from evovlm_benchmarks.studies import app

if __name__ == "__main__":
    run(app)
