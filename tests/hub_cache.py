"""Repositories as the hub lays them out, and the cache that its client makes of them: blobs, links to them, refs."""

import hashlib
from pathlib import Path
from typing import Any

import datasets

CARD = "---\nconfigs:\n- config_name: {config}\n  data_files:\n{files}---\n# {name}\n"


def data_repository(
    root: Path, name: str, splits: dict[str, Any], config: str = "default", under: str = "data"
) -> Path:
    """A data set in the hub's layout: a card that names configuration and splits, and parquet shards."""
    folder = root / name
    (folder / under).mkdir(parents=True)
    for split, (rows, features) in splits.items():
        table = datasets.Dataset.from_list(rows, features=features)
        table.to_parquet(folder / under / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: {under}/{split}-*\n" for split in splits)
    (folder / "README.md").write_text(CARD.format(config=config, files=files, name=name), encoding="utf-8")
    return folder


def cache_repository(cache: Path, name: str, folder: Path, kind: str = "models", ref: str = "main") -> str:
    """Put a folder into a hub cache as the repository `name` at one commit, which `ref` points to; returns the commit.

    kind: models or datasets. Call it again with other files for another commit of the same repository.
    """
    repository = cache / f"{kind}--{name.replace('/', '--')}"
    contents = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    listed = "\n".join(f"{path} {hashlib.sha1(content).hexdigest()}" for path, content in contents.items())
    commit = hashlib.sha1(f"{name}\n{listed}".encode()).hexdigest()
    for place in ("blobs", "refs"):
        (repository / place).mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(commit, encoding="utf-8")
    for path, content in contents.items():
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = repository / "snapshots" / commit / path
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(path.parts) + 1)
        link.symlink_to(f"{up}blobs/{blob.name}")
    return commit
