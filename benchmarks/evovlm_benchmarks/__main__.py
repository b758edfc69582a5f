"""Entry point of `evovlm bench`. Knows only the name of the command line."""

from evovlm.system.start import start


def main() -> None:
    """Run the benchmarks' command line."""
    start("evovlm_benchmarks.program")


if __name__ == "__main__":
    main()
