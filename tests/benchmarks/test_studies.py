"""The studies: what they compare is fair, a run leaves a page with pictures, and a second run does nothing twice."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from evovlm.system.errors import UserError
from evovlm_benchmarks.studies import app
from evovlm_benchmarks.studies.arms import Arm, run_same, zoo_digest
from evovlm_benchmarks.studies.curves import Band, draw_points
from evovlm_benchmarks.studies.page import best_so_far, difference, interval, read_results, whole_wins
from evovlm_benchmarks.studies.plans import STUDIES, Budget, routed
from tests.command import evovlm_here


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_arm_of_a_study_has_the_same_number_of_evaluations_and_items(name: str):
    arms = STUDIES[name].arms(Budget(40, 10), range(5))
    for arm in arms:
        assert arm.recipe.search is not None
        spent = arm.recipe.search.trials + (arm.recipe.then.search.trials if arm.recipe.then else 0)
        assert spent == 40
        assert arm.recipe.search.items == 10
        assert {one.seed for one in arms if one.name == arm.name} == set(range(5))
    assert len({arm.folder for arm in arms}) == len(arms)


@pytest.mark.slow
def test_a_study_writes_its_page_and_is_not_run_twice(tmp_path: Path):
    arguments = ["routes", "--out", str(tmp_path / "runs"), "--docs", str(tmp_path), "--seeds", "2", "--trials", "3"]
    first = CliRunner().invoke(app, [*arguments, "--items", "4", "--judged", "8"])
    assert first.exit_code == 0, first.output
    page = (tmp_path / "studies.md").read_text(encoding="utf-8")
    assert "## Does a route beat its sources" in page
    assert "Against the same routes with every scale set to 1" in page
    assert f"Zoo `{zoo_digest()}`" in page
    assert ElementTree.parse(tmp_path / "studies" / "routes.svg").getroot().tag.endswith("svg")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert len([path for path in before if path.name == "arm.json"]) == 6
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [zoo_digest()]
    again = CliRunner().invoke(app, [*arguments, "--items", "4", "--judged", "8"])
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_arms_that_are_one_search_are_searched_once(tmp_path: Path):
    recipe = routed(Budget(2, 4), 0)
    arms = [Arm("routes", "with scales", recipe, 4), Arm("searchers", "hybrid", recipe, 4)]
    run_same(arms, tmp_path, "cpu")
    one, other = (read_results(tmp_path, arm.study)[arm.name][0] for arm in arms)
    assert {**one, "study": "", "arm": ""} == {**other, "study": "", "arm": ""}
    assert len(list(tmp_path.rglob("trials.jsonl"))) == 1


@pytest.mark.parametrize("content", ["{", '{"arm": "PS"}'])
def test_a_damaged_result_is_named(tmp_path: Path, content: str):
    plan = STUDIES["spaces"].arms(Budget(200, 100), range(1))[0]
    path = tmp_path / "runs" / zoo_digest() / plan.folder / "arm.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    done = evovlm_here("bench", "study", "spaces", "--out", "runs", "--seeds", "1", folder=tmp_path)
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"error: {path.relative_to(tmp_path)}")
    with pytest.raises(UserError, match="remove it, and the same command"):
        read_results(tmp_path / "runs" / zoo_digest(), "spaces")


def test_an_unknown_study_is_told_the_choices():
    done = CliRunner().invoke(app, ["luck"])
    assert done.exit_code == 2
    assert "searchers" in done.output


def test_differences_are_paired_by_seed_and_told_with_their_interval():
    results = {
        "one": [{"seed": seed, "tests": {"winner": 10.0 * seed + 3}} for seed in range(4)],
        "other": [{"seed": seed, "tests": {"winner": 10.0 * seed}} for seed in reversed(range(4))],
    }
    assert difference(results, "one", "other") == "+3.0 points [+3.0, +3.0]: better"
    assert difference(results, "other", "one").endswith("worse")
    results["one"][0]["tests"]["winner"] = -20.0
    assert "no difference" in difference(results, "one", "other")


def test_a_curve_never_falls_and_a_band_spans_its_seeds():
    assert best_so_far([None, 3.0, 2.0, 5.0]) == [0.0, 3.0, 3.0, 5.0]
    assert Band("x", [[1.0, 2.0], [3.0, 6.0]]).spread() == ([1.0, 2.0], [2.0, 4.0], [3.0, 6.0])
    mean, low, high = interval([1.0, 2.0, 3.0])
    # Student's t with two degrees of freedom: 4.303 standard errors of 1 / sqrt(3).
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 4.303 / 3**0.5, 2.0 + 4.303 / 3**0.5), abs=1e-3)


def test_dots_are_drawn_for_every_value(tmp_path: Path):
    root = ElementTree.parse(draw_points({"a": [0.1, 0.9], "b <c>": [1.0]}, tmp_path / "p.svg", title="t")).getroot()
    assert len([node for node in root.iter() if node.tag.endswith("circle")]) == 3


def test_the_page_tells_whether_whole_vectors_win():
    drawn = [0.1 + 0.009 * number for number in range(100)]
    assert whole_wins({"DARE alone": drawn}).startswith("1.0 does not win")
    assert whole_wins({"DARE alone": drawn, "TIES alone": [0.5] * 40 + [0.99] * 20}).startswith("With TIES alone, 1.0")
