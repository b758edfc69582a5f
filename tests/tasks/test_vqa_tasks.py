import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from evovlm.system.errors import DataError
from evovlm.tasks import Options, load_task, parse_split


def cell(colour: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def asked(key: int) -> list[dict[str, Any]]:
    return [{"qa_id": 10 * key + number, "question": f"{key}は何{number}？", "answer": "犬"} for number in range(2)]


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Two images in the layout of the hub's JA-VG-VQA-500."""
    rows = [{"image_id": key, "qas": asked(key), "image": cell("red")} for key in (7, 8)]
    folder = tmp_path / "JA-VG-VQA-500"
    (folder / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture
def genome(tmp_path: Path, held_out: Path) -> Path:
    """Images 1 to 40 in the layout of ja-vg-vqa, beside the test set."""
    content = [{"id": key, "qas": asked(key)} for key in range(1, 50)]
    (tmp_path / "question_answers.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "images").mkdir()
    for key in range(1, 41):
        Image.new("RGB", (9, 7), (key, 0, 0)).save(tmp_path / "images" / f"{key}.png")
    return tmp_path


def test_the_first_question_of_an_image_is_asked_unless_all_are_wanted(held_out: Path):
    first, every = (load_task("ja-vg-vqa-500", Options(held_out, preset)) for preset in ("paper", "all-questions"))
    assert [item.id for item in first.items("test", None, 0)] == ["vg-7-70", "vg-8-80"]
    assert len(every.items("test", None, 0)) == 4
    item = first.items("test", None, 0)[0]
    assert (item.question, item.references) == ("7は何0？", ("犬",))
    assert item.image is not None
    assert item.image().getpixel((0, 0)) == (255, 0, 0)


def test_the_raw_rouge_stands_beside_the_score(held_out: Path):
    task = load_task("ja-vg-vqa-500", Options(held_out))
    item = task.items("test", None, 0)[0]
    assert task.score(item, "犬").beside == {"rougeL": 100.0, "japanese": 100.0}
    assert task.score(item, "dog").score == 0.0


def test_test_images_are_left_out_of_the_search_set(genome: Path):
    task = load_task("ja-vg-vqa-search", Options(genome))
    found = {split: {item.id for item in task.items(split, None, 0)} for split in task.splits}
    images = sorted(int(key.split("-")[1]) for keys in found.values() for key in keys)
    assert images == [key for key in range(1, 41) if key not in (7, 8)]
    assert not found["search"] & found["validation"]


def test_a_list_of_ids_leaves_images_out_too(genome: Path):
    (genome / "test_image_ids.txt").write_text("1\n2\n", encoding="utf-8")
    task = load_task("ja-vg-vqa-search", Options(genome, "all-questions"))
    kept = [item.id for split in task.splits for item in task.items(split, None, 0)]
    assert len(kept) == 2 * 38
    assert not any(key.startswith(("vg-1-", "vg-2-")) for key in kept)


@pytest.mark.parametrize("preset", ["all-questions", "greedy", "paper"])
def test_whole_pictures_are_drawn_with_all_their_questions(genome: Path, preset: str):
    task = load_task("ja-vg-vqa-search", Options(genome, preset, whole_pictures=True))
    assert task.rules["questions"] == "all"
    assert load_task("ja-vg-vqa-search", Options(genome, preset)).rules["questions"] == (
        "all" if preset == "all-questions" else "first"
    )
    found = [item.id.split("-")[1] for item in task.items("search", 8, 0)]
    assert sorted(found) == sorted(2 * [*set(found)]), "two questions of each of four pictures"
    assert len(task.items("search", 7, 0)) == 7
    assert found != [item.id.split("-")[1] for item in task.items("search", 8, 1)]
    apart = load_task("ja-vg-vqa-search", Options(genome, "all-questions")).items("search", 8, 0)
    assert len({item.picture for item in apart}) > 4


def test_whole_pictures_and_a_file_that_asks_first_questions_contradict_each_other(genome: Path, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("questions: first\n", encoding="utf-8")
    options = Options(genome, f"greedy+{path}")
    assert load_task("ja-vg-vqa-search", options).rules["questions"] == "first"
    with pytest.raises(DataError, match=r"mine.yaml: `questions: first` .* `data.whole_pictures: true` .* leave one"):
        load_task("ja-vg-vqa-search", replace(options, whole_pictures=True))
    path.write_text("num_beams: 2\n", encoding="utf-8")
    assert load_task("ja-vg-vqa-search", replace(options, whole_pictures=True)).rules["questions"] == "all"


def test_without_the_ids_of_the_test_no_search_set_is_made(genome: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (genome / "JA-VG-VQA-500").rename(genome / "elsewhere")
    with pytest.raises(DataError, match=r"test_image_ids\.txt"):
        load_task("ja-vg-vqa-search", Options(genome)).items("search", None, 0)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no images"):
        load_task("ja-vg-vqa-search", Options(tmp_path)).items("search", None, 0)


def test_in_the_wild_asks_every_question(tmp_path: Path):
    rows = [{"question": f"{number}？", "answer": "寺", "image": cell("blue")} for number in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    items = load_task("ja-vlm-bench-in-the-wild", Options(tmp_path)).items("test", None, 0)
    assert [item.id for item in items] == ["wild-00", "wild-01", "wild-02"]


def custom(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_folder_of_images_with_a_file_of_questions_is_a_task(tmp_path: Path):
    Image.new("CMYK", (9, 7)).save(tmp_path / "a.tiff")
    custom(tmp_path, [{"image": "a.tiff", "question": "何？", "references": ["白", "白い"]}])
    task, split = parse_split("custom-vqa@.:test", root=tmp_path)
    (item,) = task.items(split, None, 0)
    assert item.image is not None
    assert item.image().mode == "RGB"
    assert task.score(item, "白い").exact


def test_rows_with_a_split_keep_to_it(tmp_path: Path):
    rows = [{"question": str(n), "reference": "1", "split": ("search", "test")[n % 2]} for n in range(6)]
    rows[3]["skill"] = "sums"
    task = load_task("custom-maths", Options(custom(tmp_path, rows)))
    assert [(item.question, item.skill) for item in task.items("test", None, 0)] == [
        ("1", ""),
        ("3", "sums"),
        ("5", ""),
    ]
    with pytest.raises(DataError, match="no items"):
        task.items("validation", None, 0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "x"}, "reference"),
        ({"question": "x", "references": []}, r"mine\.jsonl:1: an empty references"),
        ({"question": "x", "reference": "わからない"}, "holds no number"),
        ({"question": "x", "reference": "1", "split": "Test"}, r"mine\.jsonl:1: no split 'Test'; choose from"),
        ({"question": "x", "reference": "1", "image": ["a.png"]}, r"mine\.jsonl:1: .* its image is list"),
        ({"question": ["x"], "reference": "1"}, "question or 0 is a list"),
        ({"answer": "1"}, "question"),
    ],
)
def test_a_row_that_is_no_question_is_named(tmp_path: Path, row: dict[str, Any], told: str):
    with pytest.raises(DataError, match=told):
        load_task("custom-maths", Options(custom(tmp_path, [row]))).items("test", None, 0)


def test_a_file_named_after_a_split_belongs_to_it_alone(tmp_path: Path):
    """As folders of data sets are: a test must not be drawn from the training file beside it."""
    for name in ("train", "valid", "test-00000-of-00001"):
        (tmp_path / f"{name}.csv").write_text(f"question,reference\n{name},1\n", encoding="utf-8")
    task = load_task("custom-maths", Options(tmp_path))
    found = {split: [item.question for item in task.items(split, None, 0)] for split in task.splits}
    assert found == {"search": ["train"], "validation": ["valid"], "test": ["test-00000-of-00001"]}


def test_a_folder_of_images_as_datasets_lays_it_out_is_a_task(tmp_path: Path):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text(
        'file_name,question,references\na.png,何？,"[""黒"", ""黒い""]"\n', encoding="utf-8"
    )
    (item,) = load_task("custom-vqa", Options(tmp_path)).items("test", None, 0)
    assert item.references == ("黒", "黒い")
    assert item.image is not None
    assert item.image().size == (9, 7)


def test_questions_of_a_test_image_may_stand_in_columns(held_out: Path):
    """Lists of records that became records of lists, as some versions of `datasets` write them."""
    path = next((held_out / "data").glob("*"))
    rows = pyarrow.parquet.read_table(path).to_pylist()
    before = load_task("ja-vg-vqa-500", Options(held_out, "all-questions")).items("test", None, 0)
    for row in rows:
        row["qas"] = {name: [qa[name] for qa in row["qas"]] for name in row["qas"][0]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    after = load_task("ja-vg-vqa-500", Options(held_out, "all-questions")).items("test", None, 0)
    assert [(item.id, item.question, item.references) for item in after] == [
        (item.id, item.question, item.references) for item in before
    ]


def test_a_list_of_test_ids_that_is_none_is_refused(genome: Path):
    for content, told in (("1, 2 3", None), ("1\nabc\n", "'abc' is no image id"), ("", "no ids in it")):
        (genome / "test_image_ids.txt").write_text(content, encoding="utf-8")
        task = load_task("ja-vg-vqa-search", Options(genome))
        if told is None:
            assert not {"vg-1-10", "vg-2-20", "vg-3-30"} & {item.id for item in task.items("search", None, 0)}
        else:
            with pytest.raises(DataError, match=told):
                task.items("search", None, 0)


def test_ids_that_stand_twice_are_refused(tmp_path: Path):
    rows = [{"id": "a", "question": "x", "reference": "1"}] * 2
    with pytest.raises(DataError, match="the id 'a' of row 2 is that of row 1 too"):
        load_task("custom-maths", Options(custom(tmp_path, rows))).items("test", None, 0)
