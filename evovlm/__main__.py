"""Entry point of `evovlm` and `python -m evovlm`. Knows only the name of the command line."""

from evovlm.system.start import start


def main() -> None:
    """Run the command line."""
    start("evovlm.cli")


if __name__ == "__main__":
    main()
