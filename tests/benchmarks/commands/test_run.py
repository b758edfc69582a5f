"""`run`: a table of every model on every task; a killed run goes on to the same result."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.evaluators.single_model import evaluate_model
from evovlm.models.open_model import resolve_folder
from evovlm.system.errors import UserError
from evovlm_benchmarks.commands.run import choose_suite
from evovlm_benchmarks.runner.results import read_answers
from evovlm_benchmarks.runner.suite import named_model, narrowed, read_suite
from tests.command import bench


def results(folder: Path) -> list[dict[str, Any]]:
    """What must be the same in every run of a suite: all but how long it took, and in how many goes."""
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))["results"]
    return [{key: value for key, value in row.items() if key not in ("seconds", "resumed")} for row in rows]


def test_a_run_scores_every_model_on_every_task(run_folder: Path):
    rows = results(run_folder / "whole")
    assert [(row["model"], row["task"]) for row in rows] == [
        ("ja", "zoo-vqa"),
        ("ja", "zoo-maths"),
        ("vlm", "zoo-vqa"),
        ("vlm", "zoo-maths"),
    ]
    assert all(row["items"] == 40 and row["ci95"][0] <= row["score"] <= row["ci95"][1] for row in rows)
    page = (run_folder / "whole" / "results.html").read_text(encoding="utf-8")
    assert "zoo-maths:test, 40 items" in page
    assert "minus the best" in page
    assert "http" not in page.replace('http-equiv="', "")
    assert "| ja (blind) |" in (run_folder / "whole" / "results.md").read_text(encoding="utf-8")


def test_a_result_says_what_was_asked_and_how_it_was_scored(run_folder: Path):
    row = results(run_folder / "whole")[1]
    assert row["generation"]["template"] == "{question}\n"
    assert row["rules"] == {"scoring": "corrected", "language": "script rule"}
    assert {"compatible", "corrected", "japanese"} <= set(row["beside"])
    assert row["versions"]["transformers"]
    assert row["batch"] == 8


def test_the_score_is_that_of_evaluate(run_folder: Path):
    found = evaluate_model("zoo:vlm", "zoo-vqa:test", 40, seed=0, batch=40)
    assert results(run_folder / "whole")[2]["score"] == pytest.approx(found.score)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_result(run_folder: Path):
    """Killed outright after some answers: what is stored stays, and what follows is as if nothing had happened."""
    command = [sys.executable, "-P", "-m", "evovlm_benchmarks", "run", "suite.yaml", "--out", "broken"]
    answers = run_folder / "broken" / "answers"
    process = subprocess.Popen(command, cwd=run_folder, stderr=subprocess.DEVNULL)
    while process.poll() is None and sum(path.read_text().count("\n") for path in answers.glob("*")) < 48:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    files = sorted(answers.glob("*"))
    stored = {path.name: path.read_bytes() for path in files}
    assert 0 < sum(content.count(b"\n") for content in stored.values()) < 160
    unfinished = [path for path in files if not (answers.parent / "results" / f"{path.stem}.json").exists()]
    with unfinished[0].open("ab") as file:
        file.write(b'{"id": "tor')  # a line that the crash tore
    done = bench("run", "suite.yaml", "--out", "broken", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert results(run_folder / "broken") == results(run_folder / "whole")
    content = json.loads((run_folder / "broken" / "results.json").read_text(encoding="utf-8"))
    assert 0 < sum(row["resumed"] for row in content["results"]) <= 160
    for path in sorted((run_folder / "whole" / "answers").glob("*")):
        again = (answers / path.name).read_bytes()
        assert again == path.read_bytes()
        assert again.startswith(stored.get(path.name, b"").rpartition(b"\n")[0])


def test_a_finished_run_is_read_not_run_again(run_folder: Path):
    before = {path: path.stat().st_mtime_ns for path in (run_folder / "whole" / "answers").glob("*")}
    done = bench("run", "suite.yaml", "--out", "whole", "--json", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_seed_does_not_go_on_in_the_same_folder(run_folder: Path):
    done = bench("run", "suite.yaml", "--out", "whole", "--seed", "3", folder=run_folder)
    assert done.returncode == 2
    assert "started with different items, seed" in done.stderr


def test_a_model_that_was_made_anew_under_its_name_is_refused(run_folder: Path):
    folder = run_folder / "anew"
    folder.mkdir()
    words = ("run", "--model", "anew", "--task", "zoo-maths:test", "--items", "4", "--out", "models")
    for source, code in (("ja", 0), ("math", 2)):
        for path in resolve_folder(f"zoo:{source}", None, run_folder).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        done = bench(*words, folder=run_folder)
        assert done.returncode == code, done.stderr
    assert "started with different weights" in done.stderr


@pytest.mark.slow
def test_flags_make_a_suite_and_the_whole_of_mgsm_runs_through_it(run_folder: Path, shared_data: Path):
    (run_folder / "brief.yaml").write_text("max_new_tokens: 12\nscoring: corrected\n", encoding="utf-8")
    task = f"mgsm-ja@{shared_data / 'mgsm'}:test"
    words = ("run", "--model", "mine=zoo:ja", "--task", task, "--preset", "brief.yaml", "--out", "mgsm")
    done = bench(*words, "--json", folder=run_folder)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["results"]
    assert (row["model"], row["items"], row["rules"]["preset"]) == ("mine", 250, "brief.yaml")
    assert row["score"] < 10  # a small model of short sums cannot do it, and is not told that it can


def test_a_model_whose_recipe_searched_on_the_test_is_told(run_folder: Path):
    """A copy of a zoo model whose recipe says that it was bred on the items of the test."""
    folder = run_folder / "cheat"
    folder.mkdir()
    for path in resolve_folder("zoo:ja", None, run_folder).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "recipe.yaml").write_text(
        "kind: llm\nsources: [{name: ja, model: 'zoo:ja'}]\nmethod: linear\nsearch: {items: 8}\n"
        "data: {search: 'zoo-maths:test', test: 'zoo-maths:validation'}\n",
        encoding="utf-8",
    )
    words = ("run", "--model", "cheat", "--task", "zoo-maths:test", "--items", "8", "--out", "caught")
    done = bench(*words, folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert "searched on zoo-maths:test: 8 pairs" in done.stdout.replace("\n", " ")
    (row,) = results(run_folder / "caught")
    assert row["overlap"]["pairs"] >= 8


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run",), "name a suite"),
        (("run", "moon"), "choose from ['evollm-jp', 'evovlm-jp', 'zoo', 'zoo-medium']"),
        (("run", "zoo", "--scoring", "strict"), "compatible"),
        (("run", "zoo", "--task", "zoo-vqa:train"), "no split 'train'"),
        (("run", "zoo", "--preset", "greedy"), "takes no preset"),
        (("run", "zoo", "--task", "zoo-vqa:test", "--task", "zoo-vqa:test"), "zoo-vqa:test is listed twice"),
        (("run", "--model", "nowhere/here", "--task", "zoo-vqa:test"), "not in the local hub cache"),
        (("run", "zoo", "--only", "jp"), "--only: no model or task 'jp' here; choose from ['base', 'ja', 'math'"),
        (("run", "zoo", "--skip", "zoo-vqa:search"), "--skip: no model or task 'zoo-vqa:search' here"),
        (("run", "zoo", "--only", "ja", "--skip", "ja"), "nothing is left to run"),
        (("run", "zoo", "--skip", "zoo-vqa", "--skip", "zoo-maths:test"), "nothing is left to run"),
        (("run", "zoo", "--model", "mine=zoo:ja", "--skip", "mine"), "--skip: no model or task 'mine' here"),
        (("run", "zoo", "--model", "ja=zoo:ja"), "two models are called 'ja'"),
        (("run", "--model", "zoo:ja", "--task", "mgsm-ja:test"), "not in the local caches"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path: Path, words: tuple[str, ...], told: str):
    done = bench(*words, "--items", "2", folder=tmp_path) if "run" in words else bench(*words, folder=tmp_path)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing is begun that cannot end"


def chosen(**named: Any) -> tuple[list[str], list[str]]:
    """Models and tasks of the suite `zoo` that are left."""
    suite = choose_suite("zoo", named.get("model"), None, None, None, None, None, named.get("only"), named.get("skip"))
    return [model.name for model in suite.models], [asked.task.partition(":")[0] for asked in suite.tasks]


@pytest.mark.parametrize(
    ("named", "models", "tasks"),
    [
        ({"only": ["ja", "vlm"]}, ["ja", "vlm"], ["zoo-vqa", "zoo-maths"]),
        ({"skip": ["ja", "vlm", "base"]}, ["math", "math2"], ["zoo-vqa", "zoo-maths"]),
        ({"only": ["ja", "zoo-maths"]}, ["ja"], ["zoo-maths"]),
        ({"only": ["ja", "vlm"], "skip": ["ja", "zoo-maths:test"]}, ["vlm"], ["zoo-vqa"]),
        ({"only": ["ja"], "model": ["mine=zoo:base"]}, ["ja", "mine"], ["zoo-vqa", "zoo-maths"]),
        ({"only": ["mine"], "model": ["mine=zoo:base"]}, ["mine"], ["zoo-vqa", "zoo-maths"]),
        ({"only": ["ja", "vlm"], "skip": ["ja"], "model": ["ja=zoo:base"]}, ["vlm", "ja"], ["zoo-vqa", "zoo-maths"]),
    ],
)
def test_a_suite_is_narrowed_by_names(named: dict[str, Any], models: list[str], tasks: list[str]):
    assert chosen(**named) == (models, tasks)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "suite: is empty; give a mapping with `models` and `tasks`"),
        ("[]", "suite: is a list; give a mapping with `models` and `tasks`"),
        ("models: [a]\ntasks: []", "models.0: is a text; give a mapping with `model: ...`"),
        ("models: {a: b}\ntasks: []", "models: is a mapping; give a list"),
    ],
)
def test_a_suite_of_another_kind_is_told_in_the_users_words(tmp_path: Path, text: str, told: str):
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(told)):
        read_suite(str(tmp_path / "suite.yaml"))


def test_long_names_are_cut():
    long = "x" * 100_000
    with pytest.raises(UserError, match="--only: no model or task 'xxx") as told:
        narrowed({"models": [{"name": "a"}], "tasks": [{"task": "zoo-vqa:test"}]}, [long], [], [])
    assert len(str(told.value)) < 300
    with pytest.raises(UserError, match="--model 'xxx") as told:
        named_model(f"{long}=")
    assert len(str(told.value)) < 300


def test_a_model_that_fails_is_told_at_the_end_and_the_others_are_scored(tmp_path: Path):
    """One that is pickled, one that is absent, one that transformers cannot load, one whose weights are broken."""
    for name in ("pickled", "torn", "broken"):
        (tmp_path / name).mkdir()
        for path in resolve_folder("zoo:ja", None, tmp_path).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    config = json.loads((tmp_path / "torn" / "config.json").read_text())
    (tmp_path / "torn" / "config.json").write_text(json.dumps(config | {"model_type": "no-such-model"}))
    tensors = load_file(tmp_path / "broken" / "model.safetensors")
    tensors["model.norm.weight"].fill_(torch.nan)
    save_file(tensors, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    models = "".join(f"  - {{name: {name}, model: {name}}}\n" for name in ("pickled", "absent", "torn", "broken"))
    tasks = "  - {task: 'zoo-maths:test'}\n  - {task: 'zoo-vqa:test'}\n"
    (tmp_path / "suite.yaml").write_text(f"models:\n{models}  - {{name: ja, model: 'zoo:ja'}}\ntasks:\n{tasks}")
    words = ("run", "suite.yaml", "--items", "4", "--out", "out")
    done = bench(*words, folder=tmp_path)
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert "error: 4 failures; the others are scored:" in told
    assert f"left out: pickled: {tmp_path / 'pickled'} has only pickled weights" in told
    assert "`evovlm convert pickled OUT`" in told.replace(f"{tmp_path}/", "")
    content = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["results"]] == ["ja", "ja"]
    failed = [(row["model"], row["task"]) for row in content["failed"]]
    assert failed == [(name, None) for name in ("pickled", "absent", "torn", "broken")]
    page = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert page.count("| pickled | failed |") == 2, "in the table of each task"
    assert "| pickled | all | failed: " in page
    assert re.search(r"\| broken \| all \| failed: .*model\.norm\.weight holds NaN or infinite values", page)
    html = (tmp_path / "out" / "results.html").read_text(encoding="utf-8")
    assert "<h2>Failed</h2>" in html
    again = bench(*words, "--skip", "pickled", "--skip", "torn", "--skip", "broken", "--json", folder=tmp_path)
    assert again.returncode == 2
    assert len(json.loads(again.stdout)["results"]) == 2
    assert [row["model"] for row in json.loads(again.stdout)["failed"]] == ["absent"]
    done = bench(*words, "--only", "ja", folder=tmp_path)
    assert done.returncode == 0
    assert "failed" not in done.stdout


def test_every_suite_that_ships_can_be_read():
    for name in ("zoo", "zoo-medium", "evovlm-jp", "evollm-jp"):
        assert read_suite(name).models


def test_answers_lie_in_a_file_a_line_each(run_folder: Path):
    for path in (run_folder / "whole" / "answers").glob("*"):
        answers = read_answers(path)
        assert len({answer.id for answer in answers}) == len(answers) == 40


@pytest.fixture
def address() -> Iterator[str]:
    """Of a Ray cluster with two cores, which outlives a run's connection to it."""
    pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80 * 2**20})
    yield cluster.address
    cluster.shutdown()


@pytest.mark.slow
def test_workers_on_ray_give_the_local_runs_results_and_a_cut_run_goes_on(run_folder: Path, address: str):
    done = bench("run", "suite.yaml", "--out", "many", "--ray", address, "--workers", "2", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert results(run_folder / "many") == results(run_folder / "whole")
    path = run_folder / "many" / results(run_folder / "many")[0]["answers"]
    assert {answer.id: answer for answer in read_answers(path)} == {
        answer.id: answer for answer in read_answers(run_folder / "whole" / "answers" / path.name)
    }
    # Cut off in a window: what is there stays, what is not is made.
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 3], encoding="utf-8")
    (run_folder / "many" / "results" / path.with_suffix(".json").name).unlink()
    done = bench("run", "suite.yaml", "--out", "many", "--ray", address, "--workers", "1", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert results(run_folder / "many") == results(run_folder / "whole")
    events = (run_folder / "many" / "events.jsonl").read_text(encoding="utf-8")
    assert events.count('"worker joined"') >= 2


def test_a_worker_with_other_weights_is_refused(run_folder: Path):
    pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
    from evovlm_benchmarks.runner.on_ray import Choices, Part, SuiteJob

    suite = read_suite(str(run_folder / "suite.yaml"))
    worker = SuiteJob(suite, Choices(str(run_folder), None, None, "cpu", False)).open()
    stem = Path(results(run_folder / "whole")[0]["answers"]).stem
    with pytest.raises(UserError, match="this worker has different items, weights; fetch the same on every node"):
        worker(Part(stem, {"weights": [], "items": "0", "seed": 0}, 0, 8, frozenset()))


@pytest.mark.slow
def test_a_model_that_fails_on_ray_is_told_at_the_end_and_the_others_are_scored(run_folder: Path, address: str):
    folder = run_folder / "nan"
    folder.mkdir()
    for path in resolve_folder("zoo:ja", None, run_folder).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"].fill_(torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    models = ("--model", "nan", "--model", "absent/absent")
    words = ("run", "suite.yaml", *models, "--out", "some", "--ray", address, "--workers", "2", "--json")
    done = bench(*words, folder=run_folder)
    assert done.returncode == 2, done.stderr
    content = json.loads(done.stdout)
    assert results(run_folder / "some") == results(run_folder / "whole")
    assert [(row["model"], row["task"]) for row in content["failed"]] == [
        ("absent/absent", None),
        ("nan", "zoo-vqa"),
        ("nan", "zoo-maths"),
    ]
