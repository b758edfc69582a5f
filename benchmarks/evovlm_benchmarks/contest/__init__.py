"""All merge methods on the same models, items and number of candidates: the scores of docs/methods.md."""
