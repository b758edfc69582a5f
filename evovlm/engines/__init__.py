"""Engines: a resident model answers questions in batches. They know no recipes, searches or scores."""
