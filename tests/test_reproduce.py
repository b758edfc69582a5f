"""docs/reproduce.md, carried out from the repository's root: its commands, its paths, its models and data, cut down."""

import itertools
import json
import os
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.command import evovlm_here, evovlm_in_turn
from tests.hub_cache import cache_repository, data_repository
from tests.talking_models import DIGITS, JAPANESE, VISUAL, chains, save_talkers

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
TESTS, SEARCHED = range(9001, 9021), range(1, 41)  # ids of Visual Genome's images
# What is cut down besides the models: the GPU, the candidates, the questions.
FEWER = {"evolve": ["--trials", "3", "--items", "6", "--judged", "6"], "bench run": ["--items", "4"]}
# What the page converts, and where to.
COPIES = {"models/wizardmath": "WizardLM/WizardMath-7B-V1.1", "models/abel": "GAIR/Abel-7B-002"}
QUESTIONS = [
    {"qa_id": datasets.Value("int64"), "question": datasets.Value("string"), "answer": datasets.Value("string")}
]


def commands() -> list[list[str]]:
    """The page's commands in their order, but for lmeh, which needs a package with data sets of its own."""
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[1:3] != ["bench", "lmeh"]]


def cut_down(words: list[str]) -> list[str]:
    """A command of the page for this machine: on the CPU, with few candidates and questions."""
    words = ["cpu" if word == "cuda" else word for word in words]
    fewer = next((more for name, more in FEWER.items() if " ".join(words).startswith(name)), [])
    given = {option for option in words if option in fewer}
    for option in given:  # such as --items 200
        place = words.index(option)
        del words[place : place + 2]
    return [*words, *fewer]


def picture(key: int) -> Image.Image:
    """An image of its own for each id, unlike all others."""
    noise = np.random.default_rng(key).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((56, 42), Image.Resampling.NEAREST)


def asked(key: int) -> list[dict[str, Any]]:
    """Two questions about an image; the answers are texts that the Japanese and the visual model were taught."""
    taught = [chains(JAPANESE), chains(VISUAL)]
    return [
        {"qa_id": 10 * key + n, "question": f"{key}は何{n}？", "answer": texts[key % len(texts)]}
        for n, texts in enumerate(taught)
    ]


def problem(number: int) -> str:
    """A problem that shares no pattern with others."""
    return "".join(random.Random(number).choices("りんごみかんいくつねこがさら", k=20)) + f"{number}は？"


def save_data_sets(root: Path) -> dict[str, Path]:
    """The hub's data sets of the paper, by repository."""
    text, number, image = datasets.Value("string"), datasets.Value("int64"), datasets.Image()
    rows = [{"image_id": key, "qas": asked(key), "image": picture(key)} for key in TESTS]
    shape = datasets.Features({"image_id": number, "qas": QUESTIONS, "image": image})
    vqa = data_repository(root, "SakanaAI/JA-VG-VQA-500", {"test": (rows, shape)})
    rows = [{"question": "これは？", "answer": chains(JAPANESE)[key], "image": picture(7000 + key)} for key in range(6)]
    shape = datasets.Features({"question": text, "answer": text, "image": image})
    wild = data_repository(root, "SakanaAI/JA-VLM-Bench-In-the-Wild", {"test": (rows, shape)})
    rows = [{"question": problem(n), "answer": None, "answer_number": int(DIGITS[n % 2])} for n in range(250)]
    shape = datasets.Features({"question": text, "answer": text, "answer_number": number})
    mgsm = data_repository(root, "juletxara/mgsm", {"test": (rows, shape)}, config="ja", under="ja")
    gsm8k = root / "SakanaAI/gsm8k-ja-test_250-1319"
    gsm8k.mkdir()
    lines = [json.dumps({"question": problem(n), "answer": f"#### {DIGITS[n % 2]}"}) for n in range(250, 1319)]
    (gsm8k / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {str(path.relative_to(root)): path for path in (vqa, wild, mgsm, gsm8k)}


def save_visual_genome(folder: Path) -> None:
    """What the page says to put into data/ja-vg-vqa: questions as yahoojapan/ja-vg-vqa has them, and images by id."""
    (folder / "images").mkdir(parents=True)
    rows = [{"id": key, "qas": [{"image_id": key, **one} for one in asked(key)]} for key in (*SEARCHED, *TESTS)]
    (folder / "question_answers.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    for key in (*SEARCHED, *TESTS):
        picture(key).save(folder / "images" / f"{key}.jpg", quality=95)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A hub cache with the models and data sets, and the commit of each."""
    made, cache = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("home") / "hub"
    models, data = save_talkers(made / "models"), save_data_sets(made / "data")
    commits = {name: cache_repository(cache, name, folder) for name, folder in models.items()}
    commits |= {name: cache_repository(cache, name, folder, "datasets") for name, folder in data.items()}
    return cache, commits


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's root as far as the page uses it: the recipes, and the data beside their folder."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    save_visual_genome(root / "data" / "ja-vg-vqa")
    return root


@pytest.fixture
def offline(hub: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process reads that hub cache and opens no connection; returns the commits."""
    cache, commits = hub
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache.parent / "datasets")
    return commits


def test_the_page_has_the_commands_that_these_tests_carry_out():
    started = [" ".join(words[:3]) for words in commands()]
    assert started.count("evovlm evolve recipes/evovlm-jp.yaml") == 1
    assert started.count("evovlm evolve mine.yaml") == 2
    assert started.count("evovlm bench run") == 5
    assert started.count("evovlm convert WizardLM/WizardMath-7B-V1.1") == 1
    assert cut_down(["evolve", "a.yaml", "--device", "cuda", "--items", "200", "--checkpoint"]) == [
        *("evolve", "a.yaml", "--device", "cpu", "--checkpoint"),
        *("--trials", "3", "--items", "6", "--judged", "6"),
    ]


@pytest.mark.usefixtures("offline")
def test_the_documented_search_can_start_from_the_repositorys_root(clone: Path):
    line = next(words for words in commands() if words[1:3] == ["evolve", "recipes/evovlm-jp.yaml"])
    done = evovlm_here(*cut_down(line[1:]), "--dry-run", folder=clone)
    assert done.returncode == 0, done.stderr
    assert "would search 40 genes with cmaes: 3 trials of 6 ja-vg-vqa-search items" in done.stdout


def carry_out(lines: list[list[str]], folder: Path, environment: dict[str, str]) -> None:
    """Run lines of the page: neighbouring ones of evovlm in one process, others with their output in `> FILE`."""
    for ours, group in itertools.groupby(lines, lambda words: words[0] == "evovlm"):
        found = list(group)
        if ours:
            done = list(evovlm_in_turn([cut_down(words[1:]) for words in found], folder, environment))
            for words, one in zip(found, done, strict=False):  # it ends with the first that fails
                assert one.returncode == 0, f"{shlex.join(words)}\n{one.stderr[-3000:]}"
            continue
        for words in found:
            *program, sign, target = words
            assert sign == ">"
            made = subprocess.run(program, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True)
            (folder / target).write_text(made.stdout, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_page_is_carried_out(hub: tuple[Path, dict[str, str]], clone: Path):
    cache, commits = hub
    packages = os.pathsep.join(str(ROOT / place) for place in (".", "app", "benchmarks"))
    environment = dict(os.environ) | {
        "HF_HOME": str(cache.parent),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": packages,
    }
    environment.pop("HF_HUB_CACHE", None)
    carry_out(commands(), clone, environment)
    for study, recipe in (("vlm", "recipes/evovlm-jp.yaml"), ("llm", "mine.yaml")):
        refuse_unpinned(clone / "runs" / study, clone / recipe, commits)
    scores = json.loads((clone / "runs" / "evovlm-jp" / "results.json").read_text(encoding="utf-8"))["results"]
    assert {row["model"] for row in scores} >= {"mine", "LLaVA-1.6-Mistral-7B", "EvoVLM-JP-7B"}
    # The merge of the search is checked against the items of its search, which are found where the recipe says.
    assert all(row["overlap"]["pairs"] == 0 for row in scores if row["model"] == "mine")
    assert {row["revision"] for row in scores if row["model"] == "EvoVLM-JP-7B"} == {
        commits["SakanaAI/EvoVLM-JP-v1-7B"]
    }


def refuse_unpinned(study: Path, recipe: Path, commits: dict[str, str]) -> None:
    """Fail unless header, result, recipes and model card of a study name the commit of all that came from the hub."""
    searched = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    named = {"base": searched["base"]["model"]}
    named |= {f"sources.{source['name']}": source["model"] for source in searched["sources"]}
    models = {key: commits[COPIES.get(model, model)] for key, model in named.items()}
    pinned = {key: commit for key, commit in models.items() if named[key] not in COPIES}
    header = json.loads((study / "study.json").read_text(encoding="utf-8"))
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    assert header["revisions"] == result["revisions"]
    assert header["revisions"]["models"] == models
    data = header["revisions"]["data"]
    assert data
    assert data == {repository: commits[repository] for repository in data}
    for path in (study / "best.yaml", study / "checkpoint" / "recipe.yaml"):
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        written_of = {"base": written["base"], **{f"sources.{one['name']}": one for one in written["sources"]}}
        assert {key: one["revision"] for key, one in written_of.items() if "revision" in one} == pinned
        assert written["data"]["revisions"] == data
    card = (study / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "not pinned" not in card
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == [COPIES.get(name, name) for name in named.values()]
    assert all(commit in card for commit in (*models.values(), *data.values()))
