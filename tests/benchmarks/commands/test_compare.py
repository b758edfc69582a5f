"""`compare`, `show`, `leaderboard`, `overlap`: reading results."""

import json
from pathlib import Path

import pytest

from evovlm.system.errors import UserError
from evovlm.system.version import commit
from evovlm_benchmarks.commands.entries import read_entries
from evovlm_benchmarks.runner.comparison import Entry, against, behind_best, by_task
from evovlm_benchmarks.runner.results import Answer, find_results
from tests.command import bench


@pytest.fixture(scope="module")
def entries(run_folder: Path) -> list[Entry]:
    return read_entries([run_folder / "whole"])


def scored(entry: Entry, name: str, scores: list[float]) -> Entry:
    """The entry as if its first answers had these scores and there were no others."""
    answers: dict[str, Answer] = {}
    for answer, score in zip(entry.answers.values(), scores, strict=False):
        answers[answer.id] = answer.model_copy(update={"score": score})
    return Entry(name, entry.result, answers)


def test_wins_losses_and_changes_are_counted_item_by_item(entries: list[Entry]):
    first = scored(entries[0], "one", [0, 50, 100, 20])
    second = scored(entries[0], "two", [100, 50, 90, 30])
    found = against(first, second, changes=2)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.difference.mean == pytest.approx(25.0)
    assert [abs(change.gain) for change in found.changes] == [100, 10]


def test_a_difference_that_may_be_chance_is_marked(entries: list[Entry]):
    same = [float(number % 7) for number in range(40)]
    alike = [value + (1 if number % 2 else -1) for number, value in enumerate(same)]
    better = [value + 5 for value in same]
    base = scored(entries[0], "base", same)
    assert against(base, scored(entries[0], "alike", alike)).marked.endswith("n.s.")
    assert not against(base, scored(entries[0], "better", better)).marked.endswith("n.s.")


def test_each_model_is_told_how_far_it_lies_behind_the_best(entries: list[Entry]):
    same = [float(number % 7) for number in range(40)]
    best = scored(entries[0], "best", same)
    near = scored(entries[0], "near", [value + (0.9 if number % 2 else -1) for number, value in enumerate(same)])
    far = scored(entries[0], "far", [value - 5 for value in same])
    told = behind_best(
        [
            Entry(e.name, e.result.model_copy(update={"score": score, "answers": e.name}), e.answers)
            for e, score in ((near, 1.0), (far, 1.0), (best, 9.0))
        ]
    )
    assert told["best"] == ""
    assert told["near"].endswith("n.s.")
    assert told["far"] == "-5.0 [-5.0, -5.0]"


def test_results_on_other_items_or_by_other_rules_are_not_compared(entries: list[Entry]):
    vqa, maths = entries[0], next(entry for entry in entries if entry.result.task != entries[0].result.task)
    with pytest.raises(UserError, match="not the same"):
        against(vqa, maths)
    other = vqa.result.model_copy(update={"rules": {**vqa.result.rules, "language": "fastText lid.176.ftz"}})
    with pytest.raises(UserError, match="score both the same way"):
        against(vqa, Entry("other", other, vqa.answers))


def test_the_best_of_a_task_comes_first(entries: list[Entry]):
    for group in by_task(entries).values():
        assert [entry.result.score for entry in group] == sorted((e.result.score for e in group), reverse=True)


def test_compare_prints_differences_and_changed_answers(run_folder: Path):
    done = bench("compare", "whole", "--to", "vlm", "--changes", "2", folder=run_folder)
    assert done.returncode == 0, done.stderr
    assert "minus vlm" in done.stdout
    assert "Changed most from vlm to ja" in done.stdout
    assert f"commit {commit()}" in done.stdout
    assert "Items drawn by seed 0." in done.stdout
    told = json.loads(bench("compare", "whole", "--json", folder=run_folder).stdout)
    row = told[0]["versus"][0]
    assert row["versions"]["commit"] == told[0]["versions"]["commit"] == commit()
    assert {"seed", "items_digest", "hardware"} <= set(row)
    assert row["wins"] + row["losses"] + row["ties"] == 40
    assert {"low", "high", "p_value", "significant"} <= set(row["difference"])


def test_one_model_in_two_runs_is_named_with_its_run(run_folder: Path):
    done = bench(
        "run", "--model", "vlm=zoo:vlm", "--task", "zoo-vqa:test", "--items", "40", "--out", "twin", folder=run_folder
    )
    assert done.returncode == 0, done.stderr
    names = {entry.name for entry in read_entries([run_folder / "whole", run_folder / "twin"])}
    assert {"whole/vlm", "twin/vlm", "ja"} <= names
    (told,) = json.loads(bench("compare", "whole", "twin", "--to", "twin/vlm", "--json", folder=run_folder).stdout)[:1]
    same = next(row for row in told["versus"] if row["model"] == "whole/vlm")
    assert (same["difference"]["mean"], same["ties"]) == (0.0, 40)


def test_show_tells_what_every_model_answered(run_folder: Path):
    done = bench("show", "whole", "1", "--task", "zoo-vqa", "--json", folder=run_folder)
    rows = json.loads(done.stdout)
    assert {row["model"] for row in rows} == {"ja", "vlm"}
    assert len({row["id"] for row in rows}) == 1
    assert bench("show", "whole", rows[0]["id"], folder=run_folder).returncode == 0
    missing = bench("show", "whole", "none", folder=run_folder)
    assert missing.returncode == 2
    assert "no item 'none'" in missing.stderr


def test_the_papers_figures_are_marked_as_the_papers(run_folder: Path, shared_data: Path):
    task = f"mgsm-ja@{shared_data / 'mgsm'}:test"
    words = ("run", "--model", "zoo:ja", "--task", task, "--preset", "short", "--items", "4", "--out", "board/mgsm")
    assert bench(*words, folder=run_folder).returncode == 0
    rows = json.loads(bench("leaderboard", "board", "--json", folder=run_folder).stdout)
    by_source = {row["source"] for row in rows}
    assert by_source == {"ours", "paper (arXiv:2403.13187)"}
    assert {"model": "EvoLLM-JP-7B (PS)", "score": 52.0}.items() <= rows[1].items()
    assert all("commit" in row["versions"] and row["hardware"] for row in rows if row["source"] == "ours")
    done = bench("leaderboard", "board", "--out", "board.html", "--no-paper", folder=run_folder)
    assert done.returncode == 0, done.stderr
    board = (run_folder / "board.html").read_text(encoding="utf-8")
    assert "arXiv" not in board
    assert f"commit {commit()}" in board


def test_a_folder_without_results_is_told_how_to_make_some(tmp_path: Path):
    with pytest.raises(UserError, match="bench run"):
        find_results([tmp_path])
    path = tmp_path / "results" / "x.json"
    path.parent.mkdir()
    path.write_text('{"format": 9}', encoding="utf-8")
    with pytest.raises(UserError, match="format 9"):
        find_results([tmp_path])
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.json"):
        find_results([tmp_path])


def test_overlap_exits_with_one_where_there_is_any(tmp_path: Path):
    clear = bench("overlap", "zoo-maths:search", "zoo-maths:test", "--items", "60", folder=tmp_path)
    assert (clear.returncode, "no overlap" in clear.stdout) == (0, True)
    same = bench("overlap", "zoo-maths:test", "zoo-maths:test", "--items", "6", "--json", folder=tmp_path)
    assert same.returncode == 1
    assert len(json.loads(same.stdout)) >= 6
