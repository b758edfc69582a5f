import io
import subprocess
import sys
import zlib
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


def test_our_own_limit_is_told_before_pillows(tmp_path: Path):
    # A header is enough: nothing is decoded.
    chunk = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    content += (9).to_bytes(4, "big") + b"IDAT"
    with pytest.raises(DataError, match="has 3,600,000,000 pixels; at most 64,000,000 are allowed, scale it down"):
        opened(content)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png has 3,600,000,000 pixels"):
        opened("a.png", tmp_path)


def test_a_side_has_a_limit_of_its_own():
    with pytest.raises(DataError, match="70000 x 2 pixels; a side of at most 65,535"):
        opened(stored(Image.new("1", (70_000, 2)), "PNG"))


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000"])
def test_a_format_that_takes_more_memory_has_a_lower_limit(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "COSTLY_PIXELS", 40)
    assert opened(stored(Image.new("RGB", SIZE), "PNG")).size == SIZE
    with pytest.raises(DataError, match=f"8 x 6 pixels; at most 40 are allowed in {kind}"):
        opened(stored(Image.new("RGB", SIZE), kind))


def test_what_an_icons_picture_says_of_its_size_counts(monkeypatch: pytest.MonkeyPatch):
    icon = bytearray(bytes(stored(Image.new("RGBA", (64, 64)), "ICO", sizes=[(64, 64)])["bytes"]))  # type: ignore[arg-type]
    icon[6:8] = bytes([4, 4])  # the directory's width and height
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    with pytest.raises(DataError, match="64 x 64 pixels"):
        opened(bytes(icon))


def _noise(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (61, 47, 4), dtype=np.uint8)
    grey = values[..., 0].astype(np.float64)
    made = {
        "I;16": lambda: (grey * 200).astype(np.uint16),
        "I": lambda: (grey * 200).astype(np.int32),
        "I, negative": lambda: (grey * 2000 - 999).astype(np.int32),
        "F": lambda: (grey / 255).astype(np.float32),
        "F, negative": lambda: (grey * 3.3 - 7).astype(np.float32),
    }
    return Image.fromarray(made[mode]()) if mode in made else Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16", "I", "I, negative", "F", "F, negative"])
@pytest.mark.parametrize("turned", [None, 6])
def test_bands_have_the_pixels_of_the_whole(mode: str, turned: int | None, monkeypatch: pytest.MonkeyPatch):
    exif = Image.Exif()
    if turned is not None:
        exif[0x0112] = turned
    cell = stored(_noise(mode), "TIFF" if mode[0] in "IF" else "PNG", exif=exif)
    whole = opened(cell)
    monkeypatch.setattr(images, "BAND", 200)
    assert (whole.size, whole.tobytes()) == ((47, 61) if turned is None else (61, 47), opened(cell).tobytes())
    monkeypatch.setattr(images, "LARGE", 1000)
    found = opened(cell)
    if turned is None:
        assert found.tobytes() == whole.reduce(2).tobytes()
    assert found.size == ((24, 31) if turned is None else (31, 24))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_the_largest_image_takes_less_than_half_a_gigabyte(mode: str, tmp_path: Path):
    values = np.full((8000, 8000), 3000, np.uint16)
    (Image.fromarray(values) if mode == "I;16" else Image.new(mode, (8000, 8000))).save(tmp_path / "a.png")
    program = """
import resource
from pathlib import Path
from evovlm.tasks._images import picture
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = used()
assert picture("a.png", Path(), "item 1")().size == (4000, 4000)
print(used() - before)
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, check=True)
    assert int(done.stdout) < 500_000, "kilobytes"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float):
    values = np.array([[0.5, 1.0], [value, 0.0]], np.float32)
    with pytest.raises(DataError, match=r"item 1: its image cannot be read \(some of its pixels are NaN or infinite"):
        opened(stored(Image.fromarray(values), "TIFF"))


@pytest.mark.filterwarnings("error")
def test_no_warning_of_pillow_reaches_the_user():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = bytes(stored(Image.new("RGB", SIZE, "red"), "JPEG", exif=exif)["bytes"])  # type: ignore[arg-type]
    at = whole.index(b"Exif") + 6
    for cut in range(0, 26, 2):  # entries and offsets that lead beyond the block
        image = opened(whole[: at + cut] + b"\xff" * (26 - cut) + whole[at + 26 :])
        assert sorted(image.size) == sorted(SIZE)  # turned or not, for what is left of the EXIF block may say so


def test_an_empty_file_is_called_empty(tmp_path: Path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png cannot be read \(it is empty\); replace"):
        opened("a.png", tmp_path)
    with pytest.raises(DataError, match="it is none of JPEG, PNG"):
        opened(b"no picture")


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
