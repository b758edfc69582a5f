"""Converts between mergekit's YAML and recipes, for the merges that both formats can express.

Knows the recipe's schema and mergekit's configuration format; merges nothing. What one format cannot express raises a
RecipeError that names the key; nothing is dropped silently.
"""

from evovlm.recipe.mergekit._documents import looks_like_mergekit
from evovlm.recipe.mergekit._read import read_content, read_mergekit
from evovlm.recipe.mergekit._write import write_mergekit

__all__ = ["looks_like_mergekit", "read_content", "read_mergekit", "write_mergekit"]
