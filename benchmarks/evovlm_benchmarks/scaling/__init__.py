"""How a search scales: the scheduler alone in a simulation, and real workers on this machine."""
