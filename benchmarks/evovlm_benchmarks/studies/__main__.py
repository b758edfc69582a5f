"""Run the studies by themselves: `python -m evovlm_benchmarks.studies NAME`."""

from evovlm_benchmarks.studies import app

if __name__ == "__main__":
    app()
