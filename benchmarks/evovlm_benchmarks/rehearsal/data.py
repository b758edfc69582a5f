"""A data folder as docs/reproduce.md describes it, with drawn pictures: the search set of JA-VG-VQA, and its test set.

Knows the two layouts and the size; no models. The pictures have the usual sizes of Visual Genome and are different
from each other; their content is random, so that scores mean nothing.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from evovlm_benchmarks.rehearsal.sizes import Size

PAIRS = (
    ("何色の屋根ですか?", "赤い"),
    ("空はどんな様子ですか?", "晴れている"),
    ("木は何本見えますか?", "2本"),
    ("これはどこで撮られましたか?", "公園"),
    ("道の右側には何がありますか?", "自転車"),
    ("女性は何を持っていますか?", "傘"),
    ("この動物は何をしていますか?", "眠っている"),
    ("皿の上には何がありますか?", "サンドイッチ"),
)
FIRST, FIRST_TEST = 2_400_000, 2_500_000  # image ids
SEARCH, TEST = "ja-vg-vqa", "test"
NOISE = 30  # of 255, so that a JPEG has a photograph's size


def write_data(folder: Path, size: Size) -> None:
    """Write the search set to `folder`/ja-vg-vqa and the test set to `folder`/test."""
    for name in (SEARCH, TEST):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name / "images").mkdir(parents=True)
    search, test, rows = folder / SEARCH, folder / TEST, []
    for number in range(size.photos):
        key = FIRST + number
        _picture(number, size.side).save(search / "images" / f"{key}.jpg", quality=90)
        asked = [
            {"qa_id": len(PAIRS) * number + place, "question": question, "answer": answer}
            for place, (question, answer) in enumerate(PAIRS)
        ]
        rows.append({"image_id": key, "qas": asked})
    (search / "question_answers.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    ids = range(FIRST_TEST, FIRST_TEST + size.test)
    (search / "test_image_ids.txt").write_text("\n".join(map(str, ids)), encoding="utf-8")
    with (test / "test.jsonl").open("w", encoding="utf-8") as file:
        for number, key in enumerate(ids):
            _picture(key, size.side).save(test / "images" / f"{key}.jpg", quality=90)
            question, answer = PAIRS[number % len(PAIRS)]
            asked = [{"qa_id": key, "question": question, "answer": answer}]
            told = {"image_id": key, "image": f"images/{key}.jpg", "qas": asked}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")


def _picture(seed: int, side: int) -> Image.Image:
    """Shapes before a gradient, with noise; three of four pictures are wider than high."""
    stream = random.Random(seed)
    width, height = (side, side * 3 // 4) if seed % 4 else (side * 3 // 4, side)
    picture = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = stream.randrange(width), stream.randrange(height)
        shape = stream.choice((draw.ellipse, draw.rectangle))
        shape((x, y, x + stream.randrange(4, side // 2), y + stream.randrange(4, side // 2)), fill=_colour(stream))
    noise = Image.frombytes("L", (width, height), stream.randbytes(width * height)).filter(ImageFilter.BoxBlur(0.5))
    return Image.blend(picture, noise.convert("RGB"), NOISE / 255)


def _colour(stream: random.Random) -> tuple[int, int, int]:
    return stream.randrange(256), stream.randrange(256), stream.randrange(256)
