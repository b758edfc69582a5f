"""Data-flow space: genomes of indicators and scales, and the routes that they stand for. Knows no models."""
