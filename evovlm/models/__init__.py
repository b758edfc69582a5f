"""Checkpoints, the layouts of model families, vocabularies: files in, tensors out."""
