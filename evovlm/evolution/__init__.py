"""A complete search: plan, search loop, selection of the winner, held-out table, controls."""
