"""From recipe to tensors: assembly, checks, and the checkpoint that is written."""
