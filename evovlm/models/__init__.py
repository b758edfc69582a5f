"""Checkpoints, layouts of model families, and vocabularies: files in, tensors out."""
