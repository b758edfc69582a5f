"""evovlm breeds new models out of existing ones: merge recipes found by evolution, no training."""

__version__ = "0.1.0"
