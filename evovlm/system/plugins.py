"""Plugins: modules of other packages that add methods, layouts, searchers or tasks when imported.

Knows entry points; not what a plugin adds.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged

GROUP = "evovlm.plugins"
MOST_SHOWN = 300  # characters of what a plugin says
_loading: list[str] = []  # the plugin that is being imported, if any


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every installed plugin, once in a process, and return their names, sorted.

    Raises UserError if one fails to load.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    for entry in found:
        _loading.append(entry.name)
        try:
            entry.load()
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:  # another package's module may raise anything, and even end the program
            raise UserError(
                f"plugin {abridged(entry.name)} ({abridged(entry.value)}) cannot be loaded: {said(error)}; fix it, or"
                " uninstall its package"
            ) from error
        finally:
            _loading.pop()
    return tuple(entry.name for entry in found)


def loading() -> str | None:
    """The name of the plugin that is being imported, whose additions are its own; None if none is."""
    return _loading[-1] if _loading else None


def said(error: BaseException) -> str:
    """An exception of a plugin in one line: its type, and its message if that is short, else the beginning."""
    return abridged(" ".join(f"{type(error).__name__}: {error}".split()), MOST_SHOWN)
