"""Draw a scene. Knows shapes and colours; no words, no questions."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

from evovlm.zoo.scenes import Scene

PAINTS = {
    "red": (220, 40, 40),
    "blue": (40, 80, 220),
    "green": (30, 150, 60),
    "yellow": (240, 200, 30),
    "purple": (150, 60, 180),
    "black": (20, 20, 20),
}
PAPER = (250, 250, 245)
Points = list[tuple[float, float]]


def render(scene: Scene, size: int = 96) -> Image.Image:
    """An RGB image of `size` x `size` pixels; the same scene always gives the same pixels."""
    image = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(image)
    cell = size / 3
    for thing in scene.things:
        row, column = divmod(thing.cell, 3)
        x = (column + 0.5 + thing.shift[0]) * cell
        y = (row + 0.5 + thing.shift[1]) * cell
        radius = 0.38 * cell * thing.scale
        paint = PAINTS[thing.colour]
        if thing.shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)
        else:
            pen.polygon([(x + radius * u, y + radius * v) for u, v in OUTLINES[thing.shape]()], fill=paint)
    return image


def _square() -> Points:
    return [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]


def _triangle() -> Points:
    return [(0, -1), (1, 0.85), (-1, 0.85)]


def _star() -> Points:
    turns = [math.pi * index / 5 for index in range(10)]
    radii = [1.1 if index % 2 == 0 else 0.45 for index in range(10)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in zip(turns, radii, strict=True)]


def _heart() -> Points:
    turns = [2 * math.pi * index / 24 for index in range(24)]
    return [
        (
            math.sin(turn) ** 3,
            -(13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)) / 16,
        )
        for turn in turns
    ]


def _cross() -> Points:
    arm = 0.32
    return [
        *((-arm, -1.0), (arm, -1.0), (arm, -arm), (1.0, -arm), (1.0, arm), (arm, arm)),
        *((arm, 1.0), (-arm, 1.0), (-arm, arm), (-1.0, arm), (-1.0, -arm), (-arm, -arm)),
    ]


OUTLINES: dict[str, Callable[[], Points]] = {
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
}
