"""evovlm breeds new models out of existing ones: merge recipes found by evolution, no training.

The public names are `Recipe`, `merge`, `evolve`, `evaluate` and `suggest`. Each is loaded on first use, so
`import evovlm` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evovlm.api import Recipe, evaluate, evolve, merge, suggest

__all__ = ["Recipe", "__version__", "evaluate", "evolve", "merge", "suggest"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562). Raises AttributeError if there is no such name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; choose from {__all__}")
    value = globals()[name] = getattr(import_module("evovlm.api"), name)
    return value


def __dir__() -> list[str]:
    """All public names, including those that are not loaded yet."""
    return sorted({*globals(), *__all__})
