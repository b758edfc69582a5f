"""How a search scales with workers: the scheduler in a simulation, and real workers on this machine."""
