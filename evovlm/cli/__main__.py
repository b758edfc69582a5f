"""`python -m evovlm.cli`: the command line by itself, without what `python -m evovlm` does about early interrupts."""

from evovlm.cli.program import main

if __name__ == "__main__":
    main()
