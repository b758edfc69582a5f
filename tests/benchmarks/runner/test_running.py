"""What a run does when memory, a model or a suite is not as one would like."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evovlm.engines._plain_runner import PlainRunner
from evovlm.engines.batches import fitting_batch, row_bytes
from evovlm.engines.hf import Engine
from evovlm.models.open_model import resolve_folder
from evovlm.tasks import Generation, Options
from evovlm_benchmarks.runner.answering import answers_of_pair
from evovlm_benchmarks.runner.pairs import Pair, plan_pairs
from evovlm_benchmarks.runner.results import read_result
from evovlm_benchmarks.runner.suite import make_suite
from tests.command import bench


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(resolve_folder("zoo:ja", None, Path()))


@pytest.fixture(scope="module")
def pair() -> Pair:
    suite = {"models": [{"name": "ja", "model": "zoo:ja"}], "tasks": [{"task": "zoo-maths:test", "items": 40}]}
    return plan_pairs(make_suite(suite, "test"), Options())[0]


def answered(engine: Engine, pair: Pair, batch: int, halved: list[int]) -> dict[str, str]:
    made = answers_of_pair(engine, pair, pair.items, pair.task.generation, batch, set(), halved)
    return {answer.id: answer.answer for rows in made for answer in rows}


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(
    engine: Engine, pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    fill = PlainRunner.fill

    def small(runner: PlainRunner, *chunk: Any) -> None:
        if runner.slots > 6:
            raise MemoryError
        fill(runner, *chunk)

    whole = answered(engine, pair, 4, [])
    monkeypatch.setattr(PlainRunner, "fill", small)
    halved: list[int] = []
    assert answered(engine, pair, 4 * 4, halved) == whole
    assert halved == [16, 8], "what was too large for the first batch is not tried with the next ones"


def test_pictures_that_do_not_fit_halve_the_batch_too(engine: Engine, pair: Pair, monkeypatch: pytest.MonkeyPatch):
    prepare = engine.prepare

    def small(items: Any, generation: Generation, batch: int) -> Any:
        if len(items) > 20:
            raise torch.OutOfMemoryError
        return prepare(items, generation, batch)

    whole = answered(engine, pair, 4, [])
    monkeypatch.setattr(engine, "prepare", small)
    halved: list[int] = []
    assert answered(engine, pair, 8, halved) == whole
    assert halved == [8]


def test_one_question_that_does_not_fit_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> list[str]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PlainRunner, "fill", full)
    done = bench("run", "--model", "zoo:ja", "--task", "zoo-maths:test", "--items", "3", folder=tmp_path)
    assert done.returncode == 2
    assert "zoo:ja on zoo-maths: one question alone does not fit into the memory of cpu" in done.stderr


def test_a_model_of_broken_weights_is_told_in_a_sentence(tmp_path: Path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in resolve_folder("zoo:ja", None, tmp_path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"].fill_(torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = bench("run", "--model", "broken", "--task", "zoo-maths:test", "--items", "3", folder=tmp_path)
    assert done.returncode == 2
    assert "model.norm.weight holds NaN or infinite values" in done.stderr


def test_a_model_without_a_chat_template_fails_and_one_with_it_is_scored(tmp_path: Path):
    (tmp_path / "talks").mkdir()
    for path in resolve_folder("zoo:ja", None, tmp_path).iterdir():
        (tmp_path / "talks" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "talks" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    (tmp_path / "sums.jsonl").write_text('{"question": "2足す3は？", "reference": "5"}', encoding="utf-8")
    words = ("--model", "zoo:ja", "--model", "talks", "--task", "custom-maths@sums.jsonl:test", "--preset", "chat")
    done = bench("run", *words, "--json", folder=tmp_path)
    assert done.returncode == 2
    content = json.loads(done.stdout)
    assert [row["model"] for row in content["results"]] == ["talks"]
    ((model, reason),) = [(row["model"], row["reason"]) for row in content["failed"]]
    assert model == "zoo:ja"
    assert "chat template" in reason


def test_the_batch_follows_the_memory(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    short, long = (Generation("{question}", length) for length in (16, 4096))
    row = row_bytes(engine, short)
    assert row_bytes(engine, long) > row
    assert row_bytes(engine, Generation("{question}", 16, num_beams=5)) == 5 * row
    for free, batch in ((2 * row, 1), (2 * 5 * row, 4), (10**15, 128), (0, 1)):
        monkeypatch.setattr("evovlm.engines.batches._free", lambda _, free=free: free)
        assert fitting_batch(engine, short) == batch


def test_one_model_may_answer_by_several_presets(tmp_path: Path, shared_data: Path):
    """Answers read by two rules, and asked in two ways: each in a table of its own, none beside what it is not like."""
    for name, text in (
        ("one", "scoring: compatible"),
        ("two", "scoring: corrected"),
        ("three", "template: '{question}'"),
    ):
        (tmp_path / f"{name}.yaml").write_text(f"max_new_tokens: 4\n{text}\n", encoding="utf-8")
    task = f"mgsm-ja@{shared_data / 'mgsm'}:test"
    asked = "".join(f"  - {{task: '{task}', items: 3, preset: {name}.yaml}}\n" for name in ("one", "two", "three"))
    (tmp_path / "suite.yaml").write_text(f"models: [{{name: ja, model: 'zoo:ja'}}]\ntasks:\n{asked}", encoding="utf-8")
    done = bench("run", "suite.yaml", "--out", "three", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("preset ") == 3
    results = [read_result(path) for path in (tmp_path / "three" / "results").iterdir()]
    assert {result.generation["template"] for result in results} > {"{question}"}
    told = bench("compare", "three", "--json", folder=tmp_path)
    assert told.stdout.count('"to"') == 1, "only two of the three are scored alike"


def test_a_models_own_preset_goes_over_that_of_the_suite(tmp_path: Path):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    (tmp_path / "wild.jsonl").write_text('{"question": "何？", "answer": "寺", "image": "a.png"}', encoding="utf-8")
    models = [{"name": "one", "model": "x", "presets": "llava"}, {"name": "two", "model": "y"}]
    task = {"task": f"ja-vlm-bench-in-the-wild@{tmp_path / 'wild.jsonl'}:test", "preset": "greedy"}
    llava, plain = plan_pairs(make_suite({"models": models, "tasks": [task]}, "test"), Options())
    assert (llava.task.generation.num_beams, plain.task.generation.num_beams) == (1, 1)
    assert llava.task.generation.template == "[INST] <image>\n{question} [/INST]"
    assert plain.task.generation.template.startswith("[INST] <<SYS>>")
    assert llava.task.rules["preset"] == "greedy+llava"
