"""What a model's README says of itself in its front matter, the hub's convention: licence and base models.

Knows one file; judges nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import read_text
from evovlm.system.bounded_yaml import parse_yaml

MOST_BYTES = 1_000_000  # of a README.md


def front_matter(folder: Path) -> dict[str, Any]:
    """The content of the front matter of a model folder's README.md; empty if there is none, or it is damaged."""
    try:
        lines = read_text(folder / "README.md", MOST_BYTES).splitlines()
        if not lines or lines[0].strip() != "---":
            return {}
        front = parse_yaml("\n".join(lines[1 : lines.index("---", 1)])).content
    except (OSError, ValueError):
        return {}
    return front if isinstance(front, dict) else {}
