"""The commands of `python -m benchmarks`, one a module; each parses its arguments and prints."""
