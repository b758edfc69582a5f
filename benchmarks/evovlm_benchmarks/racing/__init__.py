"""Racing compared with fixed subsets of items: on models, and on saved score tables."""
