"""Copies the files that a merged checkpoint takes from its owner besides weights.

Knows which files of a model folder are data; does not parse them. Weights, pickles and code are not copied.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from evovlm.models.open_model import OpenModel

CARRIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
)
TEMPLATES = "additional_chat_templates/*.jinja"


def carry_over(owner: OpenModel, destination: Path) -> list[str]:
    """Copy configuration, tokenizer, chat templates and processor into an existing folder.

    Returns the names of the copied files, relative to the owner's folder.
    """
    found = [owner.folder / name for name in CARRIED] + sorted(owner.folder.glob(TEMPLATES))
    copied = []
    for path in found:
        if not path.is_file():
            continue
        name = path.relative_to(owner.folder)
        (destination / name).parent.mkdir(exist_ok=True)
        # Files in the hub cache are links: copy their targets.
        shutil.copyfile(path, destination / name)
        copied.append(str(name))
    return copied
