"""A study on disk: ask, evaluate, tell; the append-only log; resume."""
