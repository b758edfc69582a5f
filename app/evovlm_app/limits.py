"""What a visitor may send: sizes and formats of pictures, lengths of questions. Pictures are made anew before use.

Knows Pillow; no models and no pages. What is refused is a `Refusal`: a key of `words`, said in the visitor's language.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from evovlm.system.errors import UserError

MOST_BYTES = 8_000_000
MOST_MEGABYTES = f"{MOST_BYTES // 1_000_000} MB"
MOST_PIXELS = 16_000_000
LONGEST_SIDE = 1024  # of what is kept: more than any tower looks at
LONGEST_QUESTION = 300
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")


class Refusal(UserError):
    """Something a visitor may not do. `key` names the sentence in `words`, `facts` fill it."""

    def __init__(self, key: str, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.facts = facts


def read_picture(path: Path) -> Image.Image:
    """A visitor's picture as fresh RGB pixels: upright, no metadata, at most LONGEST_SIDE a side.

    Raises Refusal: too many bytes, too many pixels, no picture, damaged, another format.
    """
    if path.stat().st_size > MOST_BYTES:
        raise Refusal("too_many_bytes", most=MOST_MEGABYTES)
    try:
        with warnings.catch_warnings():
            # Pillow warns of bombs from a size on that is already beyond the limit below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise Refusal("too_many_pixels", most=f"{MOST_PIXELS // 1_000_000}")
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                return _fresh(upright)
    except Refusal:
        raise  # it is a ValueError too, as all errors of the user's are
    except Image.DecompressionBombError:
        raise Refusal("too_many_pixels", most=f"{MOST_PIXELS // 1_000_000}") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError):
        raise Refusal("not_a_picture", formats=", ".join(FORMATS)) from None


def read_question(text: str | None) -> str:
    """A visitor's question without space around it. Raises Refusal: none, too long."""
    question = (text or "").strip()
    if not question:
        raise Refusal("no_question")
    if len(question) > LONGEST_QUESTION:
        raise Refusal("long_question", most=LONGEST_QUESTION, length=len(question))
    # A control character is nothing that a person typed; a placeholder would add a picture that is not there.
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
