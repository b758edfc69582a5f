"""Run the studies by themselves: `python -m benchmarks.studies NAME`."""

from benchmarks.studies import app

if __name__ == "__main__":
    app()
