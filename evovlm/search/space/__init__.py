"""The search space: what the numbers of a genome mean as weights, densities and routes."""
