"""Engines: a resident model answers questions in batches. Knows no recipes, searches or scores."""
