"""How recipes and commands name data: `TASK:SPLIT`, `TASK@PATH:SPLIT`, and presets that are files. Knows text only."""

from __future__ import annotations


def split_where(where: str) -> tuple[str, str | None, str]:
    """Name, path (or None) and split of `TASK:SPLIT` or `TASK@PATH:SPLIT`; a path may contain colons."""
    named, _, split = where.rpartition(":") if ":" in where else (where, "", "")
    name, _, path = named.partition("@")
    return name, path or None, split


def is_preset_file(name: str) -> bool:
    """Whether a preset's name (or one of several that are joined by `+`) means a file of the user's."""
    return name.endswith((".yaml", ".yml"))
