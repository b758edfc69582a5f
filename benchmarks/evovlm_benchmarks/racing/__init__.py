"""Races against fixed subsets of items: on models, and on saved tables of scores."""
