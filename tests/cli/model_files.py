"""Models whose files are not what they should be, for the tests of what strangers' folders may do."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

from evovlm.models.zoo_models import FOLDER

RECIPE = """\
kind: {kind}
sources:
  - {{name: bad, model: bad}}
  - {{name: math, model: "zoo:math"}}
base: {{model: "zoo:base"}}
method: task_arithmetic
owner: bad
"""


def copy_model(name: str, folder: Path) -> Path:
    """A zoo model's folder, which may be changed; its weights are a link, which must be replaced and not written to."""
    folder.mkdir()
    for path in (FOLDER / name).iterdir():
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path)
        else:
            shutil.copyfile(path, folder / path.name)
    return folder


def cut_model(name: str, folder: Path) -> Path:
    """A copy of a zoo model that keeps one layer of each tower, and is loaded and asked in a fraction of the time."""
    copy_model(name, folder)
    (folder / "config.json").write_text(cut_config(name), encoding="utf-8")
    header, data = cut_weights(name)
    join_weights(folder / "model.safetensors", json.dumps(header).encode(), data)
    return folder


def cut_config(name: str) -> str:
    """The configuration of `cut_model`."""
    text = (FOLDER / name / "config.json").read_text(encoding="utf-8")
    return re.sub(r'"num_hidden_layers": \d+', '"num_hidden_layers": 1', text)


def cut_weights(name: str) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes of `cut_model`."""
    header, data = split_weights(FOLDER / name / "model.safetensors")
    kept: dict[str, Any] = {}
    parts: list[bytes] = []
    for key, row in header.items():
        if key == "__metadata__" or ((found := re.search(r"\.layers\.(\d+)\.", key)) and int(found[1]) > 0):
            continue
        start, stop = row["data_offsets"]
        began = sum(map(len, parts))
        kept[key] = row | {"data_offsets": [began, began + stop - start]}
        parts.append(data[start:stop])
    return kept, b"".join(parts)


def split_weights(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header and its tensors' bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_weights(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    """Write a safetensors file; `length`: what it says of its header, if that is not the truth."""
    path.unlink(missing_ok=True)
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length % 2**64) + header + data)
