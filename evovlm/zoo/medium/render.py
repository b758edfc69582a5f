"""Draw a medium scene. Knows shapes, cards and Japanese things; no words, no questions."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageDraw

from evovlm.zoo.medium._glyphs import dots
from evovlm.zoo.medium._scenes import CARD, Scene, Thing
from evovlm.zoo.render import OUTLINES, PAINTS, PAPER

SIDE = 128  # pixels
Box = tuple[float, float, float]  # centre and radius, in pixels
Paint = tuple[int, int, int]
RED, BLUE, PINK, CREAM, BROWN = (210, 50, 40), (70, 110, 190), (245, 170, 195), (250, 225, 160), (120, 80, 50)
WHITE, GREY, BLACK = (255, 255, 255), (150, 150, 150), (20, 20, 20)


def render(scene: Scene, size: int = SIDE) -> Image.Image:
    """An RGB image of `size` x `size` pixels; the same scene always gives the same pixels."""
    image = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(image)
    cell = size / 3
    for thing in scene.things:
        row, column = divmod(thing.cell, 3)
        x, y = (column + 0.5 + thing.shift[0]) * cell, (row + 0.5 + thing.shift[1]) * cell
        radius = 0.4 * cell * thing.scale
        if thing.look == CARD:
            _card(pen, thing.text, (x, y, radius))
        elif thing.look in SKETCHES:
            SKETCHES[thing.look](_Pen(pen, (x, y, radius)))
        else:
            _shape(pen, thing, (x, y, radius))
    return image


class _Pen:
    """Draws in coordinates of -1 to 1 around a thing's centre."""

    def __init__(self, pen: ImageDraw.ImageDraw, box: Box) -> None:
        self._pen, (self._x, self._y, self._radius) = pen, box

    def area(self, paint: Paint, *points: tuple[float, float]) -> None:
        """A filled outline."""
        self._pen.polygon([(self._x + u * self._radius, self._y + v * self._radius) for u, v in points], fill=paint)

    def bar(self, paint: Paint, left: float, top: float, right: float, bottom: float) -> None:
        """A filled upright rectangle."""
        self.area(paint, (left, top), (right, top), (right, bottom), (left, bottom))

    def oval(self, paint: Paint, left: float, top: float, right: float, bottom: float) -> None:
        """A filled ellipse in a rectangle."""
        x, y, r = self._x, self._y, self._radius
        self._pen.ellipse((x + left * r, y + top * r, x + right * r, y + bottom * r), fill=paint)


def _shape(pen: ImageDraw.ImageDraw, thing: Thing, box: Box) -> None:
    x, y, radius = box
    paint = PAINTS[thing.colour]
    # A light outline separates a thing from one of the same colour behind it.
    if thing.look == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint, outline=PAPER)
    else:
        pen.polygon([(x + radius * u, y + radius * v) for u, v in OUTLINES[thing.look]()], fill=paint, outline=PAPER)


def _card(pen: ImageDraw.ImageDraw, text: str, box: Box) -> None:
    x, y, radius = box
    columns, dot = 4 * len(text) - 1, max(2, round(radius / 7))
    left, top = round(x - columns * dot / 2), round(y - 5 * dot / 2)
    pen.rectangle((left - 3, top - 3, left + columns * dot + 2, top + 5 * dot + 2), fill=WHITE, outline=BLACK)
    for column, row in dots(text):
        corner = left + column * dot, top + row * dot
        pen.rectangle((*corner, corner[0] + dot - 1, corner[1] + dot - 1), fill=BLACK)


def _torii(pen: _Pen) -> None:
    pen.area(RED, (-1, -0.9), (1, -0.9), (0.85, -0.6), (-0.85, -0.6))
    pen.bar(RED, -0.75, -0.3, 0.75, -0.1)
    pen.bar(RED, -0.6, -0.7, -0.35, 1)
    pen.bar(RED, 0.35, -0.7, 0.6, 1)


def _fuji(pen: _Pen) -> None:
    pen.area(BLUE, (-0.2, -0.8), (0.2, -0.8), (1.1, 0.8), (-1.1, 0.8))
    snow = ((-0.2, -0.8), (0.2, -0.8), (0.5, -0.25), (0.2, -0.4), (0, -0.15), (-0.2, -0.4), (-0.5, -0.25))
    pen.area(WHITE, *snow)


def _onigiri(pen: _Pen) -> None:
    pen.area(GREY, (-0.25, -0.95), (0.25, -0.95), (1, 0.6), (0.8, 0.9), (-0.8, 0.9), (-1, 0.6))
    pen.area(WHITE, (-0.18, -0.85), (0.18, -0.85), (0.9, 0.6), (0.74, 0.82), (-0.74, 0.82), (-0.9, 0.6))
    pen.bar(BLACK, -0.35, 0.25, 0.35, 0.88)


def _shinkansen(pen: _Pen) -> None:
    pen.area(GREY, (-1.15, -0.4), (0.4, -0.4), (1.2, 0.25), (1.15, 0.5), (-1.15, 0.5))
    pen.area(WHITE, (-1.1, -0.34), (0.36, -0.34), (1.1, 0.24), (1.05, 0.42), (-1.1, 0.42))
    pen.bar(BLUE, -1.1, 0.12, 0.95, 0.28)
    for left in (-0.95, -0.55, -0.15):
        pen.bar(BLACK, left, -0.2, left + 0.22, 0.02)


def _daruma(pen: _Pen) -> None:
    pen.oval(RED, -0.9, -0.95, 0.9, 0.95)
    pen.oval(CREAM, -0.6, -0.65, 0.6, 0.1)
    for left in (-0.4, 0.12):
        pen.oval(BLACK, left, -0.4, left + 0.28, -0.12)
    pen.bar(CREAM, -0.12, 0.35, 0.12, 0.8)


def _chochin(pen: _Pen) -> None:
    pen.oval(CREAM, -0.65, -0.8, 0.65, 0.8)
    for top in (-0.4, -0.05, 0.3):
        pen.bar(RED, -0.6, top, 0.6, top + 0.1)
    pen.bar(BLACK, -0.4, -1, 0.4, -0.75)
    pen.bar(BLACK, -0.4, 0.75, 0.4, 1)


def _koinobori(pen: _Pen) -> None:
    pen.bar(BROWN, -1, -1, -0.85, 1)
    pen.area(BLUE, (-0.8, -0.5), (0.5, -0.35), (1.1, -0.6), (0.9, -0.1), (1.1, 0.4), (0.5, 0.15), (-0.8, 0.3))
    pen.oval(WHITE, -0.65, -0.4, -0.3, -0.05)
    pen.oval(BLACK, -0.55, -0.3, -0.4, -0.15)


def _sakura(pen: _Pen) -> None:
    pen.bar(BROWN, -0.15, 0.1, 0.15, 1)
    for left, top in ((-1, -0.5), (-0.5, -1), (0, -0.5), (-0.5, -0.35)):
        pen.oval(PINK, left, top, left + 1, top + 0.9)


SKETCHES: dict[str, Callable[[_Pen], None]] = {
    "torii": _torii,
    "fuji": _fuji,
    "onigiri": _onigiri,
    "shinkansen": _shinkansen,
    "daruma": _daruma,
    "chochin": _chochin,
    "koinobori": _koinobori,
    "sakura": _sakura,
}
