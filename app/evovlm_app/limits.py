"""Limits on visitors' input: size and format of images, length of questions. Images are re-encoded before use.

Knows Pillow; no models and no pages. Bad input raises `Refusal`: a key in `words`, shown in the visitor's language.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from evovlm.system.errors import UserError

MOST_BYTES = 8_000_000
MOST_MEGABYTES = f"{MOST_BYTES // 1_000_000} MB"
MOST_PIXELS = 16_000_000
LONGEST_SIDE = 1024  # pixels kept, more than any vision tower uses
LONGEST_QUESTION = 300  # characters
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


class Refusal(UserError):
    """A request that the app refuses. `key` names the sentence in `words`; `facts` fill its placeholders."""

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.facts = facts


def read_picture(path: Path) -> Image.Image:
    """Decode a visitor's image to new RGB pixels: upright, without metadata, at most LONGEST_SIDE pixels per side.

    Raises Refusal if it has too many bytes or pixels, is not an image, is damaged, or has an unsupported format.
    """
    if path.stat().st_size > MOST_BYTES:
        raise Refusal("too_many_bytes", most=MOST_MEGABYTES)
    try:
        with warnings.catch_warnings():
            # Pillow warns about decompression bombs only at sizes beyond the limit below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise Refusal("too_many_pixels", most=f"{MOST_PIXELS // 1_000_000}")
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                return _fresh(upright)
    except Refusal:
        raise  # a Refusal, like every UserError, is also a ValueError, which is caught below
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", most=f"{MOST_PIXELS // 1_000_000}") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        raise Refusal("not_a_picture", formats=", ".join(FORMATS)) from None


def read_question(text: str | None) -> str:
    """A visitor's question, stripped. Raises Refusal if it is empty or longer than LONGEST_QUESTION.

    Control characters and `<image>` become spaces.
    """
    question = (text or "").strip()
    if not question:
        raise Refusal("no_question")
    if len(question) > LONGEST_QUESTION:
        raise Refusal("long_question", most=LONGEST_QUESTION, length=len(question))
    # People do not type control characters, and an <image> placeholder would refer to an image that does not exist.
    return "".join(c if c.isprintable() else " " for c in question).replace("<image>", " ").strip() or "?"


def _fresh(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        paper = Image.new("RGBA", rgba.size, "white")
        picture = Image.alpha_composite(paper, rgba)
    fresh = Image.new("RGB", picture.size)
    fresh.paste(picture.convert("RGB"))
    fresh.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return fresh
