"""The manifest of the shipped zoo: which files belong to it, and whether they are intact.

Knows paths and SHA-256 sums; no tensors.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from evovlm.system.errors import CheckpointError

ZOO_MODELS: tuple[str, ...] = ("base", "ja", "vlm", "math", "math2")
FOLDER = Path(__file__).parent.parent / "zoo" / "weights"
MANIFEST = "manifest.json"


@cache
def zoo_folder(name: str) -> Path:
    """The folder of a model that ships with the package; its files are checked against the manifest once per process.

    Raises CheckpointError if the name is unknown, or files are missing or damaged.
    """
    if name not in ZOO_MODELS:
        raise CheckpointError(f"zoo:{name}: no such model; choose from {', '.join(ZOO_MODELS)}")
    return verify(FOLDER, name)


def verify(zoo: Path, name: str) -> Path:
    """Compare the files of one model under `zoo` with `zoo/manifest.json`, and return the model's folder.

    Raises CheckpointError if the manifest or a file is missing, a file is damaged, or the manifest has no such model.
    """
    manifest = zoo / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{manifest}: missing; reinstall evovlm, or make a zoo with `evovlm zoo train`")
    files: dict[str, str] = json.loads(manifest.read_text())["files"]
    mine = {path: digest for path, digest in files.items() if path.startswith(f"{name}/")}
    if not mine:
        raise CheckpointError(f"{manifest}: has no model {name}; train it with `evovlm zoo train`")
    for path, digest in mine.items():
        file = zoo / path
        if not file.is_file() or file_digest(file) != digest:
            state = "damaged" if file.is_file() else "missing"
            raise CheckpointError(f"{file}: {state} (SHA-256 differs from {manifest}); reinstall evovlm")
    return zoo / name


def write_manifest(zoo: Path, names: tuple[str, ...], facts: dict[str, Any]) -> Path:
    """Write `zoo/manifest.json`: the SHA-256 of every file of the named models, after `facts` (provenance)."""
    files = {
        path.relative_to(zoo).as_posix(): file_digest(path)
        for name in names
        for path in sorted((zoo / name).rglob("*"))
        if path.is_file()
    }
    manifest = zoo / MANIFEST
    manifest.write_text(json.dumps({**facts, "files": files}, indent=2, ensure_ascii=False) + "\n")
    return manifest


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return sha256(path.read_bytes()).hexdigest()
