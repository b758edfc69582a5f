"""Models whose files are not what they should be, for the tests of what strangers' folders may do."""

from __future__ import annotations

import json
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


def split_weights(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header and its tensors' bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_weights(path: Path, header: bytes, data: bytes, length: int | None = None) -> None:
    """Write a safetensors file; `length`: what it says of its header, if that is not the truth."""
    path.unlink(missing_ok=True)
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length % 2**64) + header + data)
