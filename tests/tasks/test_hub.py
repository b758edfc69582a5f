"""Data sets of a hub, through the real `datasets`: a hub on this machine, and the caches that it leaves behind."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
from PIL import Image

from evovlm.system.errors import DataError
from evovlm.tasks import Options, load_task
from evovlm.tasks._hub import HubSet, cached_commit, hub_rows
from tests.command import bench
from tests.hub_cache import data_repository
from tests.tasks.hub_server import COMMIT, hub_of

# A list of one feature, as every version of datasets from 3 on reads it.
QUESTIONS = [
    {"qa_id": datasets.Value("int64"), "question": datasets.Value("string"), "answer": datasets.Value("string")}
]


def picture(mode: str, kind: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new(mode, (9, 7)).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": f"a.{kind.lower()}"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's data sets, cut down, as their repositories are laid out."""
    root = tmp_path_factory.mktemp("hub")
    text, number, image = datasets.Value("string"), datasets.Value("int64"), datasets.Image()
    asked = [
        [{"qa_id": 10 * key + n, "question": f"{key}は何{n}？", "answer": "犬"} for n in range(2)] for key in (7, 8)
    ]
    pictures = [picture("CMYK", "JPEG"), picture("I;16", "PNG")]
    rows = [{"image_id": key, "qas": asked[key - 7], "image": pictures[key - 7]} for key in (7, 8)]
    shape = datasets.Features({"image_id": number, "qas": QUESTIONS, "image": image})
    data_repository(root, "SakanaAI/JA-VG-VQA-500", {"test": (rows, shape)})
    wild = [{"question": "これは？", "answer": "寺", "image": pictures[0]}]
    shape = datasets.Features({"question": text, "answer": text, "image": image})
    data_repository(root, "SakanaAI/JA-VLM-Bench-In-the-Wild", {"test": (wild, shape)})
    problems = [{"question": f"問題{n}", "answer": None, "answer_number": n} for n in range(250)]
    solved = [{"question": f"問題：{n}は？", "answer": f"答えは{n}です。", "answer_number": n} for n in range(8)]
    shape = datasets.Features({"question": text, "answer": text, "answer_number": number})
    data_repository(
        root, "juletxara/mgsm", {"test": (problems, shape), "train": (solved, shape)}, config="ja", under="ja"
    )
    rest = [{"question": f"問題{n}", "answer": f"{n}"} for n in range(250, 1319)]
    (root / "SakanaAI/gsm8k-ja-test_250-1319").mkdir()
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rest)
    (root / "SakanaAI/gsm8k-ja-test_250-1319/test.jsonl").write_text(lines, encoding="utf-8")
    choices = {f"choice{n}": f"語{n}" for n in range(5)}
    common = [{"q_id": n, "question": "何？", "label": n % 5} | choices for n in range(20)]
    shape = datasets.Features({"q_id": number, "question": text, "label": number} | dict.fromkeys(choices, text))
    data_repository(root, "sbintuitions/JCommonsenseQA", {"train": (common, shape), "validation": (common[:3], shape)})
    return root


@pytest.fixture(scope="module")
def fetched(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The home of the caches after every task was fetched from the hub by its id, and what the hub was asked."""
    home = tmp_path_factory.mktemp("home")
    program = (
        "from evovlm.tasks import Options, load_task\n"
        "for name, split in [('ja-vg-vqa-500', 'test'), ('ja-vlm-bench-in-the-wild', 'test'), ('mgsm-ja', 'test'),"
        " ('gsm8k-ja-search', 'search'), ('jcommonsenseqa', 'search'), ('jcommonsenseqa', 'test')]:\n"
        "    task = load_task(name, Options(download=True, preset='few-shot' if name == 'mgsm-ja' else None))\n"
        "    print(name, split, len(task.items(split, None, 0)), task.generation.template.count('答えは'))\n"
    )
    with hub_of(hub) as (address, asked):
        environment = dict(os.environ) | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        told = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, encoding="utf-8"
        )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "ja-vg-vqa-500 test 2 0",
        "ja-vlm-bench-in-the-wild test 1 0",
        "mgsm-ja test 250 8",
        "gsm8k-ja-search search 860 0",
        "jcommonsenseqa search 14 0",
        "jcommonsenseqa test 3 0",
    ]
    return home, asked


@pytest.fixture
def cached(fetched: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The filled caches, on a machine where no connection can be opened."""
    home, _ = fetched
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return home


def test_every_task_is_fetched_from_the_hub_by_its_id(fetched: tuple[Path, list[str]]):
    _, asked = fetched
    parquet = [line for line in asked if line.startswith("GET") and line.endswith(".parquet")]
    assert len(parquet) == len(set(parquet)) == 6
    assert all(f"/resolve/{COMMIT}/" in line for line in parquet)


def test_what_was_fetched_is_read_again_without_a_connection(cached: Path):
    vqa = load_task("ja-vg-vqa-500", Options(preset="all-questions")).items("test", None, 0)
    assert [(item.id, item.question) for item in vqa][:2] == [("vg-7-70", "7は何0？"), ("vg-7-71", "7は何1？")]
    mgsm = load_task("mgsm-ja", Options(preset="few-shot"))
    assert [item.references for item in mgsm.items("test", None, 0)][249] == ("249",)
    assert mgsm.generation.template.startswith("問題：0は？\n答えは0です。")


def test_pictures_come_as_bytes_and_are_opened_by_our_rules(cached: Path):
    """CMYK and 16 bits: `datasets` itself would hand them on as they are, or fail on them."""
    for item in load_task("ja-vg-vqa-500", Options()).items("test", None, 0):
        assert item.image is not None
        assert (item.image().mode, item.image().size) == ("RGB", (9, 7))


def test_what_datasets_has_prepared_stands_in_for_a_lost_hub_cache(cached: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cached / "none"))
    before = datasets.config.HF_HUB_OFFLINE
    found = hub_rows(HubSet("juletxara/mgsm", "ja"), "test", download=False)
    assert (len(found.rows), found.commit) == (250, COMMIT)
    assert before == datasets.config.HF_HUB_OFFLINE


def test_a_prepared_table_is_read_only_in_its_own_revision(cached: Path, monkeypatch: pytest.MonkeyPatch):
    mgsm = HubSet("juletxara/mgsm", "ja")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cached / "none"))
    assert len(hub_rows(mgsm, "test", download=False, revision=COMMIT).rows) == 250
    with pytest.raises(DataError, match=rf"revision {'f' * 40} is wanted, but the cache of `datasets` holds {COMMIT}"):
        hub_rows(mgsm, "test", download=False, revision="f" * 40)
    assert cached_commit(mgsm, None) == cached_commit(mgsm, COMMIT) == COMMIT
    assert cached_commit(mgsm, "f" * 40) is None
    assert cached_commit(HubSet("owner/none"), None) is None


def test_a_download_says_which_commit_it_fetched(fetched: tuple[Path, list[str]], cached: Path):
    found = hub_rows(HubSet("juletxara/mgsm", "ja"), "test", download=False, revision="main")
    assert found.commit == COMMIT


def test_the_hubs_own_switch_goes_before_a_wish_to_download(cached: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = hub_rows(HubSet("SakanaAI/JA-VG-VQA-500"), "test", download=True, columns=["image_id"]).rows
    assert [row.cells for row in rows] == [{"image_id": 7}, {"image_id": 8}]
    assert rows[1].where == "SakanaAI/JA-VG-VQA-500, test: row 2"


def test_a_set_that_is_nowhere_is_an_error_that_names_cache_and_next_step(cached: Path):
    with pytest.raises(DataError, match=r"owner/none: not in the local caches .*hub.*; fetch it with `hf download"):
        hub_rows(HubSet("owner/none"), "test", download=False)


@pytest.mark.parametrize(
    ("hub_set", "split"), [(HubSet("juletxara/mgsm", "xx"), "test"), (HubSet("juletxara/mgsm", "ja"), "dev")]
)
def test_a_configuration_or_split_that_is_not_there_is_named(cached: Path, hub_set: HubSet, split: str):
    with pytest.raises(DataError, match=rf"juletxara/mgsm \({hub_set.config}\): .*'{split}' cannot be read"):
        hub_rows(hub_set, split, download=False)


def test_a_broken_file_in_the_cache_is_an_error_and_no_traceback(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copied = tmp_path / "hub"
    shutil.copytree(
        cached / "hub" / "datasets--sbintuitions--JCommonsenseQA", copied / "datasets--x--y", symlinks=False
    )
    for path in copied.rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(copied))
    with pytest.raises(DataError, match=r"x/y: its split 'train' cannot be read through `datasets`"):
        hub_rows(HubSet("x/y"), "train", download=False)


def test_the_command_ends_with_one_line_and_exit_code_2_when_offline(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    done = bench("run", "--task", "mgsm-ja:test", "--model", "zoo:ja", "--out", "run", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: juletxara/mgsm (ja): not in the local caches ({tmp_path / 'hub'}, ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
