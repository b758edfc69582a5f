"""The contest of methods: every method has a search with the same items and candidates, and a rerun continues."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from evovlm.cli.entry import run_command
from evovlm.methods import METHODS
from evovlm.system.errors import StudyError
from evovlm_benchmarks.contest import __main__ as command
from evovlm_benchmarks.contest.recipes import search_of, searched
from evovlm_benchmarks.studies.arms import DONE, zoo_digest
from evovlm_benchmarks.studies.plans import Budget

RESULT = {
    "study": "24-60-300", "arm": "ties", "seed": 0, "zoo": "z", "commit": "c", "curve": [1.0, None], "genes": [],
    "route": [], "parameters": {"ja": {"density": 1.0}}, "items": 60, "judged": 300, "tests": {"winner": 50.0},
    "cpu_seconds": 1.0, "hardware": "h", "versions": {"torch": "2"},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_searched_over_what_it_has(name: str):
    recipe = search_of(name, Budget(24, 60), 3)
    row, search = METHODS[name], recipe.search
    assert search is not None
    assert recipe.method == name
    assert row.takes(len(recipe.sources))
    assert recipe.base is not None or not row.needs_base
    assert (search.items, search.seed) == (60, 3)
    weight, density, options = searched(row)
    assert search.trials == (24 if weight or density or options else 1)
    assert (search.density is None) == (row.drop is None)
    assert set(search.options) == set(options)


def test_what_is_searched_changes_what_a_method_does():
    assert {name for name, row in METHODS.items() if not any(searched(row))} == {
        *("model_stock", "karcher", "arcee_fusion", "passthrough")
    }
    assert searched(METHODS["wudi"])[0] is None
    assert searched(METHODS["tsv_m"])[0] == [0.0, 1.5]


def run(*words: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["contest", *words])
    with pytest.raises(SystemExit) as stop:
        run_command(command.contest)
    return stop.value.code


@pytest.mark.parametrize("content", ["{", "[]", "{}", None])
def test_a_damaged_result_is_named_before_any_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None
):
    path = tmp_path / "work" / zoo_digest() / "24-60-300" / "ties-0" / DONE
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if content is None else path.write_text(content, encoding="utf-8")
    words = ("--method", "ties", "--seeds", "1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "rows"))
    assert run(*words, monkeypatch=monkeypatch) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: {path}")
    assert told.endswith("remove it, and the same command finishes that search again")
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--device", "tpu"), "--device tpu"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--items", "20001"), "Input should be less than or equal to 20000"),
        (("--judged", "20001"), "Input should be less than or equal to 20000"),
        (("--method", "x" * 100_000), f"unknown method '{'x' * 60}...'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    told: str,
):
    places = ("--work", str(tmp_path / "work"), "--out", str(tmp_path / "rows"), "--seeds", "1", "--method", "linear")
    assert run(*places, *words, monkeypatch=monkeypatch) == 2
    assert told in (said := capsys.readouterr().err)
    assert len(said) < 1500
    assert list(tmp_path.iterdir()) == []


def test_searches_with_other_settings_ask_for_another_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def other(*_, **__):
        raise StudyError("work/study.json: started with another `dtype`; choose a new folder with --out")

    monkeypatch.setattr("evovlm_benchmarks.studies.arms.run_arms", other)
    assert run("--out", str(tmp_path / "rows"), monkeypatch=monkeypatch) == 2
    assert "choose a new folder with --work" in capsys.readouterr().err


def test_rows_of_other_methods_stay_in_the_file_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "rows.jsonl"
    old = [{"method": name, "seed": seed, "score": 1.0} for name in ("linear", "ties", "wudi") for seed in (0, 1)]
    out.write_text("".join(json.dumps(row) + "\n" for row in old), encoding="utf-8")
    words = ("--method", "ties", "--seeds", "1", "--work", str(tmp_path / "work"), "--out", str(out))

    def searched_already(arms, work, *, progress, **_):
        for arm in arms:
            files = work / arm.folder
            files.mkdir(parents=True)
            (files / DONE).write_text(json.dumps(RESULT | {"arm": arm.name}), encoding="utf-8")
            progress(arm)

    monkeypatch.setattr("evovlm_benchmarks.studies.arms.run_arms", searched_already)
    assert run(*words, monkeypatch=monkeypatch) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["method"], row["seed"], row["score"]) for row in rows] == [
        *(("linear", 0, 1.0), ("linear", 1, 1.0)), ("ties", 0, 50.0), *(("wudi", 0, 1.0), ("wudi", 1, 1.0))
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["{}", "no JSON"])
def test_a_file_of_something_else_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
):
    out = tmp_path / "rows.jsonl"
    out.write_text(line + "\n", encoding="utf-8")
    assert run("--method", "ties", "--work", str(tmp_path / "work"), "--out", str(out), monkeypatch=monkeypatch) == 2
    assert f"error: --out: {out}:1: " in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == line + "\n"


@pytest.mark.slow
def test_rows_say_what_was_run_and_a_rerun_repeats_nothing(tmp_path: Path):
    out, work = tmp_path / "rows.jsonl", tmp_path / "work"
    arguments = ["--method", "karcher", "--method", "nearswap", "--seeds", "1", "--trials", "2", "--items", "4"]
    arguments += ["--judged", "4", "--work", str(work), "--out", str(out)]
    app = command.typer.Typer()
    app.command()(command.contest)
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["method"], row["seed"], row["tries"]) for row in rows] == [("karcher", 0, 1), ("nearswap", 0, 2)]
    assert rows[1]["models"] == ["zoo:math"]
    assert rows[1]["base"] == "zoo:ja"
    assert rows[1]["searched"] == ["t"]
    assert all(row["commit"] and row["hardware"] and 0 <= row["score"] <= 100 for row in rows)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    out.unlink()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_searches_end_with_a_contest_that_is_killed(tmp_path: Path):
    words = ["--method", "linear", "--seeds", "2", "--jobs", "2", "--trials", "5000", "--work", str(tmp_path / "work")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    contest = subprocess.Popen(
        [sys.executable, "-m", "evovlm_benchmarks.contest", *words, "--out", str(tmp_path / "rows.jsonl")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 300
    while not list(tmp_path.glob("work/**/trials.jsonl")) and time.monotonic() < until:
        time.sleep(0.2)
    searches = psutil.Process(contest.pid).children(recursive=True)
    contest.kill()
    contest.wait()
    assert len(searches) >= 2
    _, alive = psutil.wait_procs(searches, timeout=15)
    assert not alive, alive
