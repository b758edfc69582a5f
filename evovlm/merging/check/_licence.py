"""A model's licence, read from the front matter of its README.

Knows one file; does not judge whether licences are compatible.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evovlm.merging.check._card import front_matter
from evovlm.merging.check._finding import Finding, model_key
from evovlm.models.open_model import OpenModel


def licence_of(folder: Path) -> str | None:
    """Return the licence declared in the front matter of a model folder's README.md (hub convention), or None."""
    front = front_matter(folder)
    licence = front.get("license")
    if licence == "other":  # on the hub this means "see license_name"
        licence = front.get("license_name") or licence
    if isinstance(licence, list):
        return ", ".join(str(one) for one in licence) or None
    return str(licence) if licence else None


def check_licence(model: OpenModel) -> Iterator[Finding]:
    """Report the licence found; the merge inherits the terms of all models."""
    licence = licence_of(model.folder)
    text = licence or "not found in README.md; look it up before you share the merge"
    yield Finding("note", model_key(model, "licence"), text)
