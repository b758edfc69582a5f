"""Carrying over: what a merged checkpoint takes from its owner besides weights.

Knows which files of a model folder are data; reads none of them. Weights, pickles and code stay behind.
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
    """Copy configuration, tokenizer, chat templates and processor into an existing folder; the names copied."""
    found = [owner.folder / name for name in CARRIED] + sorted(owner.folder.glob(TEMPLATES))
    copied = []
    for path in found:
        if not path.is_file():
            continue
        name = path.relative_to(owner.folder)
        (destination / name).parent.mkdir(exist_ok=True)
        # The hub cache links its files into a store: copy what they point at.
        shutil.copyfile(path, destination / name)
        copied.append(str(name))
    return copied
