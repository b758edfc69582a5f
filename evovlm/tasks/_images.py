"""Load images of any mode as RGB, from files, bytes and parquet image cells.

Knows Pillow; no tasks. EXIF rotation is applied, 16 bits become 8, transparent pixels are put on white, and only the
first frame of an animation is used. An image of more than `MOST_PIXELS` is refused before it is decoded, a file of more
than `MOST_BYTES` before it is read.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from evovlm.system.bounded_json import shown
from evovlm.system.errors import DataError

MOST_PIXELS = 100_000_000
MOST_BYTES = 2**29  # of an encoded image: more than so many pixels take in any format that is read
# Not all that Pillow knows: PostScript, for one, is drawn by another program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """An encoded image, as a file or as its bytes, which opens as RGB when called. `where`: for messages."""

    source: Path | bytes
    where: str

    def __call__(self) -> Image.Image:
        """The image as RGB. Raises DataError, naming it, if it cannot be decoded."""
        return open_rgb(io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source, self.where)

    def digest(self) -> str:
        """A hash of the encoded image: 32 hexadecimal digits. Raises DataError if the file cannot be read."""
        if isinstance(self.source, bytes):
            content = self.source
        else:
            try:
                content = self.source.read_bytes()
            except OSError as error:
                raise DataError(f"{self.where}: its image {self.source} cannot be read ({error.strerror})") from None
        return blake2b(content, digest_size=16).hexdigest()


def picture(cell: Any, folder: Path, where: str) -> Picture:
    """A cell's image. The cell is a path (relative to `folder`), bytes, or {bytes, path}.

    Raises DataError if the cell is none of these or its file is missing; opening the image raises it if the image
    cannot be decoded.
    """
    if isinstance(cell, dict):
        content, name = cell.get("bytes"), cell.get("path")
        cell = content if content is not None else name
    if isinstance(cell, bytes | bytearray):
        return Picture(bytes(cell), where)
    if isinstance(cell, str | Path) and str(cell):
        path = folder / cell
        try:
            there = path.is_file()
        except OSError:  # a name that is too long
            there = False
        if not there:
            raise DataError(
                f"{where}: its image {shown(cell)} does not exist (or is no file); give paths relative to {folder}"
            )
        if (nbytes := path.stat().st_size) > MOST_BYTES:
            raise DataError(
                f"{where}: its image {shown(cell)} has {nbytes:,} bytes; at most {MOST_BYTES:,} are allowed, scale it"
                " down"
            )
        return Picture(path, where)
    raise DataError(f"{where}: its image is {type(cell).__name__}; give a path, bytes, or a parquet image column")


def open_rgb(source: Path | io.BytesIO, where: str) -> Image.Image:
    """The image as RGB, rotated upright. Raises DataError, naming it, if it is too large or cannot be decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its own limit; our limit is checked right below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=FORMATS)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{where}: {width} x {height} pixels; at most {MOST_PIXELS:,} allowed, scale it down")
            image.seek(0)
            return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders of broken files raise nearly anything
        if isinstance(error, DataError):
            raise
        named = f" {source}" if isinstance(source, Path) else ""
        raise DataError(
            f"{where}: its image{named} cannot be read ({error}); replace the file or drop the item"
        ) from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16- or 32-bit or float grey to 8 bits: 16-bit values are scaled by 1/257, other ranges stretched."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode.startswith("I;16") or (image.mode == "I" and 255 < values.max() <= 65535 and values.min() >= 0):
        return Image.fromarray((values / 257).round().astype(np.uint8))
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= (1.0 if image.mode == "F" else 255):
        return Image.fromarray((values * (255 if image.mode == "F" else 1)).round().astype(np.uint8))
    return Image.fromarray(((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8))
