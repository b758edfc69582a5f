"""Whether two models differ in their weights alone, so that one loaded model can answer as either.

Knows the files of a model's folder; loads no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evovlm.models.assets import TEMPLATES
from evovlm.models.configuration import CONFIG, GENERATION
from evovlm.models.model_files import read_object
from evovlm.models.open_model import WANTED, OpenModel

# Where a file comes from and how its weights are stored, not what they compute.
PROVENANCE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
# Weights, the index of their files, and what no library reads.
APART = ("*.safetensors", "*.index.json", "README.md", "LICENSE*")


def differing_file(model: OpenModel, other: OpenModel) -> str | None:
    """The first file, by name, that is not the same for two models, whatever their weights are; None if all are."""
    names = sorted({*_names(model.folder), *_names(other.folder)})
    return next((name for name in names if not _same(model.folder / name, other.folder / name)), None)


def _names(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if any(path.match(wanted) for wanted in WANTED) and not any(path.match(apart) for apart in APART):
            yield path.name
    yield from (str(path.relative_to(folder)) for path in folder.glob(TEMPLATES))


def _same(path: Path, other: Path) -> bool:
    if path.name in (CONFIG, GENERATION):
        mine, theirs = (read_object(one) or {} for one in (path, other))
        return all(mine.get(key) == theirs.get(key) for key in {*mine, *theirs} - set(PROVENANCE))
    return path.is_file() and other.is_file() and path.read_bytes() == other.read_bytes()
