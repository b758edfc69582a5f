import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evovlm.system.errors import DataError
from evovlm.tasks import _images as images
from evovlm.tasks._images import picture

SIZE = (8, 6)


def stored(image: Image.Image, kind: str, **more: object) -> dict[str, object]:
    """A parquet image cell."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return {"bytes": buffer.getvalue(), "path": None}


def opened(cell: object, folder: Path = Path()) -> Image.Image:
    return picture(cell, folder, "item 1")()


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB"])
def test_every_mode_becomes_rgb(mode: str):
    image = (
        Image.new(mode, SIZE)
        if mode == "I;16"
        else Image.new("RGB", SIZE, "black").convert("L" if mode in ("LA", "I", "F") else "RGB")
    )
    image = image if mode in ("I;16", "LAB") else image.convert(mode)
    found = opened(stored(image, "JPEG" if mode == "YCbCr" else "TIFF"))
    assert (found.mode, found.size) == ("RGB", SIZE)
    assert found.getpixel((2, 2)) == (0, 0, 0)


def test_sixteen_bits_keep_their_brightness():
    values = np.full((6, 8), 32896, dtype=np.uint16)
    assert opened(stored(Image.fromarray(values), "PNG")).getpixel((0, 0)) == (128, 128, 128)


def test_a_cmyk_jpeg_keeps_its_colour():
    red, green, blue = opened(stored(Image.new("RGB", SIZE, "red").convert("CMYK"), "JPEG", quality=95)).getpixel(
        (3, 3)
    )
    assert red > 200
    assert max(green, blue) < 60


def test_a_turned_photograph_stands_upright():
    image = Image.new("RGB", SIZE)
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise
    assert opened(stored(image, "JPEG", exif=exif)).size == (SIZE[1], SIZE[0])


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    cell = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert opened(cell).getpixel((0, 0)) == (255, 0, 0)


def test_transparency_lies_on_white():
    assert opened(stored(Image.new("RGBA", SIZE, (0, 0, 0, 0)), "PNG")).getpixel((0, 0)) == (255, 255, 255)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "MOST_PIXELS", 40)
    with pytest.raises(DataError, match="8 x 6 pixels"):
        opened(stored(Image.new("RGB", SIZE), "PNG"))


def test_pillows_own_limit_is_told_as_an_error_of_the_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="item 1"):
        opened(stored(Image.new("RGB", SIZE), "PNG"))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_bytes_name_their_item(content: bytes):
    with pytest.raises(DataError, match="item 1: its image cannot be read"):
        opened(content)


def test_a_cut_off_file_names_its_item():
    whole = stored(Image.effect_noise((64, 64), 90).convert("RGB"), "PNG")["bytes"]
    assert isinstance(whole, bytes)
    with pytest.raises(DataError, match="item 1"):
        opened(whole[: len(whole) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what it mends itself
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_no_broken_file_ends_a_run_with_anything_but_its_name(kind: str):
    """Bytes of real files are changed and cut; some still open, the others are told as errors of the data."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    more = {} if kind in ("GIF", "BMP") else {"exif": exif}
    whole = bytes(stored(image, kind, **more)["bytes"])  # type: ignore[arg-type]
    refused = 0
    for _ in range(60):
        content = bytearray(whole[: rng.integers(20, len(whole) + 1)])
        for place in rng.exponential(80, size=4).astype(int):
            content[min(place, len(content) - 1)] = rng.integers(256)
        try:
            assert opened(bytes(content)).mode == "RGB"
        except DataError:
            refused += 1
    assert refused > 20


def test_a_missing_file_is_told_at_once(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        picture("a.png", tmp_path, "item 1")
    with pytest.raises(DataError, match="NoneType"):
        picture(None, tmp_path, "item 1")


def test_a_path_counts_from_the_folder_of_the_data(tmp_path: Path):
    Image.new("RGB", SIZE, "blue").save(tmp_path / "a.webp", lossless=True)
    assert opened("a.webp", tmp_path).getpixel((0, 0)) == (0, 0, 255)


def test_real_photographs_open(shared_data: Path):
    for path in sorted((shared_data / "images").glob("*.*")):
        if path.suffix != ".txt":
            assert opened(path.name, path.parent).mode == "RGB"
