"""mergekit's YAML, read into a recipe and written from one, for the merges that both can say.

Knows the recipe's schema and mergekit's configuration format; merges nothing. What one side cannot say is a
RecipeError that names the key, never a silence.
"""

from evovlm.recipe.mergekit._read import looks_like_mergekit, read_mergekit
from evovlm.recipe.mergekit._write import write_mergekit

__all__ = ["looks_like_mergekit", "read_mergekit", "write_mergekit"]
