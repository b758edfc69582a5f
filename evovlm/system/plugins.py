"""Plugins: modules of other packages that add methods, layouts, searchers or tasks when imported.

Knows entry points; not what a plugin adds.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from evovlm.system.errors import UserError

GROUP = "evovlm.plugins"


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every installed plugin, once in a process, and return their names, sorted.

    Raises UserError if one fails to load.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    for entry in found:
        try:
            entry.load()
        except Exception as error:  # another package's module may raise anything
            raise UserError(
                f"plugin {entry.name} ({entry.value}) cannot be loaded: {type(error).__name__}: {error};"
                " fix it, or uninstall its package"
            ) from error
    return tuple(entry.name for entry in found)
