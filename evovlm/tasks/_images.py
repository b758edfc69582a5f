"""Load images of any mode as RGB, from files, bytes and parquet image cells.

Knows Pillow; no tasks. EXIF rotation is applied, 16 bits become 8, transparent pixels are put on white, and only the
first frame of an animation is used. An image of more than `MOST_PIXELS` is refused before it is decoded, a file of more
than `MOST_BYTES` before it is read; one of more than `LARGE` pixels is halved, because no model sees so many. An image
is converted in bands, so that only what was decoded takes the memory of all its pixels.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.IcoImagePlugin import IcoImageFile
from PIL.JpegImagePlugin import JpegImageFile

from evovlm.system.bounded_json import shown
from evovlm.system.errors import DataError
from evovlm.system.plain_text import abridged

MOST_PIXELS = 64_000_000
COSTLY_PIXELS = 24_000_000  # of an image whose decoder holds it several times
COSTLY = ("WEBP", "AVIF", "JPEG2000", "CMYK")
MOST_SIDE = 65_535
LARGE = 16_000_000
BAND = 2**20  # pixels that are converted at once
ORIENTATION = 0x0112  # of EXIF
MOST_BYTES = 2**29  # of an encoded image: more than so many pixels take in any format that is read
# Not all that Pillow knows: PostScript, for one, is drawn by another program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
REPLACE = "replace the file or drop the item"
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
    named = f" {abridged(str(source), 200)}" if isinstance(source, Path) else ""
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it mends itself, and up to twice its own limit; ours is checked right below.
            warnings.simplefilter("ignore")
            image = Image.open(source, formats=FORMATS)
            _refuse_large(image, f"{where}: its image{named}")
            image.seek(0)
            return _upright_rgb(image)
    except DataError:
        raise
    except Image.DecompressionBombError as error:  # raised by Pillow before its size can be asked
        told = re.search(r"\((\d+) pixels\)", str(error))
        number = f"{int(told[1]):,}" if told else "too many"
        raise DataError(
            f"{where}: its image{named} has {number} pixels; at most {MOST_PIXELS:,} are allowed, scale it down"
        ) from None
    except UnidentifiedImageError:
        known = "is empty" if _is_empty(source) else f"is none of {', '.join(FORMATS)}, or is damaged"
        raise DataError(f"{where}: its image{named} cannot be read (it {known}); {REPLACE}") from None
    except Exception as error:  # decoders of broken files raise nearly anything
        raise DataError(f"{where}: its image{named} cannot be read ({abridged(str(error), 200)}); {REPLACE}") from None


def _is_empty(source: Path | io.BytesIO) -> bool:
    return not (source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes)


def _refuse_large(image: Image.Image, named: str) -> None:
    # What a file of icons says of their sizes need not be so.
    width, height = image.ico.getimage(image.size).size if isinstance(image, IcoImageFile) else image.size
    if max(width, height) > MOST_SIDE:
        raise DataError(f"{named} has {width} x {height} pixels; a side of at most {MOST_SIDE:,} is allowed, cut it")
    costly = next((kind for kind in COSTLY if kind in (image.format, image.mode)), None)
    most = min(MOST_PIXELS, COSTLY_PIXELS) if costly else MOST_PIXELS
    if width * height > most:
        kind = f" in {costly}" if costly else ""
        raise DataError(f"{named} has {width} x {height} pixels; at most {most:,} are allowed{kind}, scale it down")


def _upright_rgb(image: Image.Image) -> Image.Image:
    every = 2 if image.width * image.height > LARGE else 1
    if every > 1 and isinstance(image, JpegImageFile):
        before = image.size
        image.draft(None, (image.width // every, image.height // every))  # decoded at half its size
        every = 1 if image.size != before else every
    image.load()
    orientation = image.getexif().get(ORIENTATION)  # none any more of a TIFF, which is turned as it is loaded
    found = _rgb(image, every)
    if orientation is not None:
        found.getexif()[ORIENTATION] = orientation
        ImageOps.exif_transpose(found, in_place=True)
    return found


def _rgb(image: Image.Image, every: int) -> Image.Image:
    """Convert an image to RGB, and let squares of `every` pixels a side be one."""
    width, height = image.size
    rows = every * max(1, BAND // (width * every))
    to_rgb = _grey(image) if image.mode.startswith(("I", "F")) else _coloured
    found = Image.new("RGB", (-(-width // every), -(-height // every)))
    for top in range(0, height, rows):
        band = to_rgb(image.crop((0, top, width, min(top + rows, height))))
        found.paste(band if every == 1 else band.reduce(every), (0, top // every))
    return found


def _coloured(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """How bands of a grey image of 16 or 32 bits, or of floats, become 8 bits as RGB.

    16-bit values are scaled by 1/257, other ranges stretched. Raises ValueError if one is NaN or infinite.
    """
    wide = image.mode.startswith("I;16")
    low, high = (0.0, 65535.0) if wide else _range(image)
    if wide or (image.mode == "I" and 255 < high <= 65535 and low >= 0):
        shift, scale, factor = 0.0, 257.0, 1.0
    elif low >= 0 and high <= (1.0 if image.mode == "F" else 255):
        shift, scale, factor = 0.0, 1.0, 255.0 if image.mode == "F" else 1.0
    else:
        shift, scale, factor = low, max(high - low, 1e-12), 255.0

    def convert(band: Image.Image) -> Image.Image:
        values = (np.asarray(band, dtype=np.float64) - shift) / scale * factor
        return Image.fromarray(values.round().astype(np.uint8)).convert("RGB")

    return convert


def _range(image: Image.Image) -> tuple[float, float]:
    rows = max(1, BAND // image.width)
    least, most = np.inf, -np.inf
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if not np.isfinite(values).all():
            raise ValueError("some of its pixels are NaN or infinite")
        least, most = min(least, float(values.min())), max(most, float(values.max()))
    return least, most
