"""Reads the small files of a model's folder: only regular files, of a limited size, and JSON that is sound.

Knows which files transformers opens, and how large they may be; not what their keys mean. Whatever transformers is to
read is looked at here first: it would wait for ever for a FIFO, or fill the memory from /dev/zero.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from evovlm.models.assets import ASSETS, TEMPLATES
from evovlm.system.bounded_files import Unreadable, open_regular
from evovlm.system.bounded_json import read_json
from evovlm.system.errors import CheckpointError

# Bytes. Gemma 3's tokenizer.json is the largest published one that we know, with 33 MB.
MOST_TOKENIZER = 64 * 2**20
MOST_CONFIG = 4 * 2**20
MOST_TEMPLATE = 2**20
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json")
# Read by transformers where they lie beside a model, but never copied.
MORE = ("adapter_config.json", "feature_extractor_config.json", "audio_tokenizer_config.json")
AGAIN = "fetch it again"


def is_there(path: Path, most: int | None = None) -> bool:
    """Whether there is such a file, which is then a regular one that can be opened.

    Raises CheckpointError if it is something else (a FIFO, a folder, a link that leads nowhere), cannot be opened, or
    has more than `most` bytes.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        if path.is_symlink():
            raise CheckpointError(f"{path}: is a link that leads nowhere; {AGAIN}") from None
        return False
    except Unreadable as error:
        raise CheckpointError(f"{error}; {AGAIN}") from None
    if most is not None and size > most:
        raise CheckpointError(f"{path}: has {size:,} bytes, more than the limit for such a file ({most:,}); {AGAIN}")
    return True


def read_object(path: Path, most: int | None = None) -> dict[str, Any] | None:
    """The object in a JSON file of a model's folder; None if there is no such file.

    Raises CheckpointError, naming file and key, for what `read_json` refuses, and for anything but an object.
    """
    if not is_there(path):
        return None
    try:
        content = read_json(path, most_bytes(path.name) if most is None else most)
    except Unreadable as error:
        raise CheckpointError(f"{error}; {AGAIN}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {kind_of(content)}, not an object; {AGAIN}")
    return content


def most_bytes(name: str) -> int:
    """The most bytes that a file of this name may have in a model's folder."""
    if name.endswith(".jinja"):
        return MOST_TEMPLATE
    return MOST_TOKENIZER if name in TOKENIZERS else MOST_CONFIG


def check_files(folder: Path) -> None:
    """Look at every small file that transformers may open in a folder.

    Raises CheckpointError for the first that is not a regular file of a limited size, or not sound JSON.
    """
    for path in [*(folder / name for name in (*ASSETS, *MORE)), *sorted(folder.glob(TEMPLATES))]:
        if path.suffix == ".json":
            read_object(path)
        else:
            is_there(path, most_bytes(path.name))


def kind_of(value: Any) -> str:
    """A JSON value's type, as messages name it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds[type(value)]
