"""A few test items with every model's answer: a strip of their images, and a Markdown table.

Knows tasks and the engine; measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from evovlm.engines.hf import Engine
from evovlm.tasks import Item, Task

MARGIN, TIMES = 8, 2  # pixels between images; enlargement over the model's input size


def answer_all(models: Mapping[str, Path], task: Task, items: Sequence[Item], batch: int = 16) -> dict[str, list[str]]:
    """Each model's answers, in item order."""
    answers = {}
    for name, folder in models.items():
        engine = Engine.load(folder, dtype=torch.float32)
        answers[name] = engine.answer(engine.prepare(items, task.generation, batch))
    return answers


def strip(items: Sequence[Item]) -> Image.Image:
    """The items' images side by side, enlarged."""
    pictures = [item.image().convert("RGB") for item in items if item.image is not None]
    side = TIMES * pictures[0].width
    wide = Image.new("RGB", (len(pictures) * (side + MARGIN) - MARGIN, side), "white")
    for place, picture in enumerate(pictures):
        wide.paste(picture.resize((side, side), Image.Resampling.NEAREST), (place * (side + MARGIN), 0))
    return wide


def table(items: Sequence[Item], answers: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table: one row per model, one column per item; answers equal to the reference are bold."""
    lines = ["| | " + " | ".join(_plain(item.question) for item in items) + " |", "|---" * (len(items) + 1) + "|"]
    lines.append("| *reference* | " + " | ".join(_plain(item.references[0]) for item in items) + " |")
    for name, said in answers.items():
        cells = [
            f"**{_plain(answer)}**" if answer == item.references[0] else _plain(answer) or "(nothing)"
            for item, answer in zip(items, said, strict=True)
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")
