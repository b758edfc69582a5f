"""What a visitor may send."""

import io
from pathlib import Path

import pytest
from PIL import Image

from evovlm_app.limits import LONGEST_QUESTION, LONGEST_SIDE, MOST_BYTES, Refusal, read_picture, read_question


def saved(path: Path, image: Image.Image, **more: object) -> Path:
    image.save(path, **more)
    return path


def refused(path: Path) -> str:
    with pytest.raises(Refusal) as told:
        read_picture(path)
    return told.value.key


def test_a_picture_comes_back_as_fresh_upright_rgb_without_metadata(tmp_path: Path):
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[274] = 6  # turned by a quarter
    exif[270] = "where I live"
    read = read_picture(saved(tmp_path / "turned.jpg", image, exif=exif))
    assert (read.mode, read.size) == ("RGB", (20, 40))
    assert not read.getexif()
    assert read.info == {}


def test_a_lossless_scene_keeps_its_pixels(tmp_path: Path):
    image = Image.effect_noise((96, 96), 80).convert("RGB")
    assert read_picture(saved(tmp_path / "noise.png", image)).tobytes() == image.tobytes()


def test_what_is_transparent_becomes_white_and_what_is_large_smaller(tmp_path: Path):
    clear = read_picture(saved(tmp_path / "clear.png", Image.new("RGBA", (8, 8), (255, 0, 0, 0))))
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    wide = read_picture(saved(tmp_path / "wide.png", Image.new("RGB", (3000, 1000))))
    assert max(wide.size) == LONGEST_SIDE


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path):
    assert refused(saved(tmp_path / "many.png", Image.new("1", (5000, 4000)))) == "too_many_pixels"
    assert refused(saved(tmp_path / "bomb.png", Image.new("1", (20000, 20000)))) == "too_many_pixels"


def test_too_many_bytes_are_refused_unread(tmp_path: Path):
    (tmp_path / "big.png").write_bytes(bytes(MOST_BYTES + 1))
    assert refused(tmp_path / "big.png") == "too_many_bytes"


def test_no_picture_a_torn_one_and_a_strange_format_are_refused(tmp_path: Path):
    (tmp_path / "words.png").write_text("no picture")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(whole, format="PNG")
    (tmp_path / "torn.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png", format="TIFF")
    assert {refused(tmp_path / name) for name in ("words.png", "torn.png", "picture.png")} == {"not_a_picture"}


def test_questions_are_trimmed_bounded_and_free_of_placeholders():
    assert read_question("  何ですか\n") == "何ですか"
    assert read_question("a\x00b<image>c") == "a b c"
    for text, key in (("", "no_question"), (None, "no_question"), ("何" * (LONGEST_QUESTION + 1), "long_question")):
        with pytest.raises(Refusal) as told:
            read_question(text)
        assert told.value.key == key
