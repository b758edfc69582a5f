"""The search space: maps the numbers of a genome to weights, densities and routes."""
