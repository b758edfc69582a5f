"""Copies the files of a model folder besides its weights: configuration, tokenizer, chat templates, processor.

Knows which files of a model folder are data; does not parse them. Weights, pickles and code are not copied.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

ASSETS = (
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


def copy_assets(source: Path, destination: Path) -> list[str]:
    """Copy configuration, tokenizer, chat templates and processor of the model in `source` into an existing folder.

    Returns the names of the copied files, relative to `source`.
    """
    found = [source / name for name in ASSETS] + sorted(source.glob(TEMPLATES))
    copied = []
    for path in found:
        if not path.is_file():
            continue
        name = path.relative_to(source)
        (destination / name).parent.mkdir(exist_ok=True)
        # Files in the hub cache are links: copy their targets.
        shutil.copyfile(path, destination / name)
        copied.append(str(name))
    return copied


def set_chat_template(folder: Path, template: str) -> None:
    """Give the model in `folder` another chat template, in place of those that its files have."""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name in ("chat_template.json", "additional_chat_templates/default.jinja"):
        (folder / name).unlink(missing_ok=True)
    for name in ("tokenizer_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("chat_template", None) is not None:
            path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
