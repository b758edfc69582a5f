"""From recipe to checkpoint: assembling the models, checking them, merging the tensors and writing the result."""
