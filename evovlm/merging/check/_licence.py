"""A model's licence, read from the front matter of its README.

Knows one file; judges no compatibility.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.open_model import OpenModel


def licence_of(folder: Path) -> str | None:
    """The licence that a model folder's README.md declares in its front matter (hub convention), or None."""
    try:
        lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
        if not lines or lines[0].strip() != "---":
            return None
        front = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(front, dict):
        return None
    licence = front.get("license")
    if licence == "other":  # the hub's word for "see license_name"
        licence = front.get("license_name") or licence
    if isinstance(licence, list):
        return ", ".join(str(one) for one in licence) or None
    return str(licence) if licence else None


def check_licence(model: OpenModel) -> Iterator[Finding]:
    """The licence as found; the merge inherits the terms of all."""
    licence = licence_of(model.folder)
    text = licence or "none found in README.md; look it up before you share the merge"
    yield Finding("note", model_key(model.label, "licence"), text)
