"""The visitors' questions: images and questions of the zoo, and the models that answer."""

from __future__ import annotations

import io
from dataclasses import dataclass

from evovlm.tasks import load_task
from evovlm_benchmarks.app_load.visitor import MODELS, Lost, Visitor, picture

COUNT = 8


@dataclass(frozen=True)
class Scene:
    """A PNG image and a question about it."""

    png: bytes
    question: str


def load_scenes() -> list[Scene]:
    """The first scenes of the zoo's test questions."""
    scenes = []
    for item in load_task("zoo-vqa").items("test", COUNT, 0):
        assert item.image is not None
        file = io.BytesIO()
        item.image().save(file, format="PNG")
        scenes.append(Scene(file.getvalue(), item.question))
    return scenes


def ask(visitor: Visitor, compare: int, scene: Scene) -> list[str]:
    """Upload a scene and return each model's answer. `compare`: number of the page's function.

    Raises Lost if the upload or an answer fails.
    """
    sent = visitor.upload(scene.png)
    if sent.is_error:
        raise Lost(f"HTTP {sent.status_code}: {sent.text}")
    [rows] = visitor.ask(compare, [picture(sent.json()[0]), scene.question, MODELS, None])
    states = [row["state"] for row in rows]
    if states != ["done"] * len(MODELS):
        raise Lost(f"answers: {states}")
    return [row["answer"] for row in rows]
