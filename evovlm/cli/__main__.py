"""`python -m evovlm.cli`: the command line without the handling of early interrupts in `python -m evovlm`."""

from evovlm.cli.program import main

if __name__ == "__main__":
    main()
