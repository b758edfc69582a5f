"""The contest of methods: every method has a search with the same items and candidates, and a rerun continues."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evovlm.methods import METHODS
from evovlm_benchmarks.contest import __main__ as command
from evovlm_benchmarks.contest.recipes import search_of, searched
from evovlm_benchmarks.studies.plans import Budget


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
