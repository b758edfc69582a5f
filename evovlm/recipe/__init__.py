"""The recipe: its schema, its YAML, and mergekit's YAML."""
