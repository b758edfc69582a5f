"""Entry point of `evovlm app`. Knows only the name of the command line."""

from evovlm.system.start import start


def main() -> None:
    """Run the app's command line."""
    start("evovlm_app.program")


if __name__ == "__main__":
    main()
