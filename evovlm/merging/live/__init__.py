"""Merging into a model that stays in memory, on a CPU or a GPU."""
