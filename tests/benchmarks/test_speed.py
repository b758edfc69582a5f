"""The speed benchmark measures real merges here, and every ratio is to a floor of the same run."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import kendalltau

from evovlm.methods import METHODS, resolve_options
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import UserError
from evovlm_benchmarks.merge_speed import SCALES, Scale
from evovlm_benchmarks.program import main
from evovlm_benchmarks.runner.tables import print_sheet
from evovlm_benchmarks.speed import prepare
from evovlm_benchmarks.speed.candidate import candidate_rows
from evovlm_benchmarks.speed.command import sheet_of
from evovlm_benchmarks.speed.fidelity import RECIPE, compared, row_of
from evovlm_benchmarks.speed.fidelity_tiles import tiles_rows
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.full_size import SMALL_EYES
from evovlm_benchmarks.speed.merge_disk import SCALE
from evovlm_benchmarks.speed.merge_gpu import METHODS as TIMED
from evovlm_benchmarks.speed.merge_gpu import VARIANTS
from evovlm_benchmarks.speed.plot import draw_growth
from evovlm_benchmarks.speed.questions import question_rows
from evovlm_benchmarks.speed.ranks import HIDDEN, WAYS, better_half, candidates_of, ranks_rows, rouge_l, smooth_pixels
from evovlm_benchmarks.speed.settings import Settings
from evovlm_benchmarks.speed.torch_twin import torch_merge
from evovlm_benchmarks.speed.towers import random_tower, recipe_of, stored
from tests.command import evovlm_here
from tests.methods.merging import make_models, merge

FLAT = Rates("cpu", 1e9, 1e10, "", None)


@pytest.mark.slow
def test_a_cpu_run_gives_rows_with_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(32, 64, 2, 4, 2, 200))
    out, plot = tmp_path / "speed.json", tmp_path / "growth.svg"
    with pytest.raises(SystemExit) as stop:
        main(["speed", "merge", "methods", "--out", str(out), "--plot", str(plot)])
    assert stop.value.code == 0
    told = json.loads(out.read_text())
    methods = told["parts"]["methods"]
    assert {row["method"] for row in methods} == set(TIMED) == {*METHODS, *VARIANTS} - {"passthrough"}
    assert all(row["bits_equal"] for row in methods)
    rows = told["parts"]["merge"] + methods
    assert {row["sources"] for row in rows} == {1, 2, 3}
    assert {row["method"] for row in methods if row["sources"] == 1} == {"nearswap", "arcee_fusion"}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["seconds"] / (row["bytes"] / told["rates"]["copy"]))
    assert plot.read_text().count("<circle") == 2


@pytest.mark.parametrize(
    ("part", "method", "reason"),
    [
        ("methods", "tise", "unknown method 'tise'; choose from"),
        ("merge", "ties", "is for the parts `methods` and `prepare`"),
    ],
)
def test_a_method_that_cannot_be_measured_is_refused(
    part: str, method: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["speed", part, "--method", method])
    assert stop.value.code == 2
    assert f"--method: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--out", "--plot"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "merge", flag, str(tmp_path / "absent" / "file")])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: Invalid value for '{flag}': {tmp_path / 'absent'} is not a folder")
    assert told.out == ""


def test_a_plot_of_parts_that_do_not_grow_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "candidate", "--plot", str(tmp_path / "growth.svg")])
    assert stop.value.code == 2
    assert "add the part merge or questions" in " ".join(capsys.readouterr().err.split())


def test_mergekit_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "disk", "--mergekit", str(tmp_path / "mergekit-yaml")])
    assert stop.value.code == 2
    assert "no such file; give the path of mergekit-yaml" in capsys.readouterr().err


def test_a_child_that_fails_is_told_by_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALE, True, "unknown")
    done = evovlm_here("bench", "speed", "disk", "--quick", folder=tmp_path)
    assert done.returncode == 2
    [told] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: merge to disk failed: .*--scale: choose from small, 0.5b, 1b, 7b, 13b", told)


def test_the_table_of_ranks_fits_80_columns():
    row = {
        "against": "in full", "mean_score": 100.0, "equal_answers": 0.123, "kendall": -0.123, "spearman": -0.123,
        "same_best": False, "best_promoted": True, "seconds": 118.41234, "scale": "7b", "candidates": 12,
    }  # fmt: skip
    rows = [row | {"what": way} for way in WAYS]
    rows[0] |= {"kendall": None}
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_sheet(console, sheet_of("ranks", rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("ranks, scale 7b") == 1, "one table"
    for cell in ("score", "equal", "kendall", "spearman", "best", "half", "ms", "118,412.34", "100.000", "no", "yes"):
        assert cell in text.split(), cell


def test_ranks_of_tied_scores_are_unknown_and_valid_json():
    row = row_of("way", [3.0, 3.0], [1.0, 2.0])
    assert (row["kendall"], row["spearman"]) == (None, None)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row_of("way", [1.0, 2.0], [3.0, 4.0])["kendall"] == pytest.approx(1.0)


def test_a_part_that_needs_a_gpu_says_so_elsewhere(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "streamed"])
    assert stop.value.code == 0
    assert "streamed: nothing to measure on cpu" in capsys.readouterr().out


def test_a_part_that_there_is_not_is_told_the_choices(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "decoding"])
    assert stop.value.code == 2
    assert "choose from ['merge'" in capsys.readouterr().err


def test_nothing_that_grows_cannot_be_drawn(tmp_path: Path):
    with pytest.raises(UserError, match="name the part `merge`"):
        draw_growth({}, tmp_path / "x.svg")


def test_random_towers_are_the_same_each_time_they_are_read():
    tower = random_tower(Scale(32, 64, 1, 4, 2, 50), recipe_of(2, "dare_ties"), torch.device("cpu"))
    job = tower.jobs[2]
    base = tower.base_tensor(job)
    assert torch.equal(base, tower.base_tensor(job))
    first, second = (tower.source_tensor(job, source, job.name, base) for source, _ in job.parts)
    assert 0 < float((first.float() - base.float()).std()) < 0.1 * float(base.float().std())
    assert not torch.equal(first, second)


def test_towers_on_disk_have_the_same_weights(tmp_path: Path):
    drawn = random_tower(Scale(32, 64, 1, 4, 2, 50), recipe_of(2, "dare_ties"), torch.device("cpu"))
    mapped = stored(drawn, tmp_path)
    for job in drawn.jobs:
        base = drawn.base_tensor(job)
        assert torch.equal(mapped.base_tensor(job), base)
        for source, name in job.parts:
            assert torch.equal(
                mapped.source_tensor(job, source, name, base), drawn.source_tensor(job, source, name, base)
            )


def test_plain_torch_computes_the_same_merge_where_nothing_is_dropped():
    models = make_models((40, 30), 2)
    out = torch.empty_like(models.base)
    torch_merge(models.base, models.sources, (0.6, 0.3), (1.1, 1.1), out)
    assert resolve_options("dare_ties", None, None, 1.0, 0.15, 0.01).rescale == "l1"
    assert torch.allclose(out, merge("dare_ties", models, weights=(0.6, 0.3), densities=(1.0, 1.0)), atol=1e-7)


def test_a_candidate_is_timed_beside_its_floors_and_plain_transformers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(64, 128, 2, 4, 2, 1000))
    rates = Rates("cpu", copy=1e9, matrix=1e10, dtype="float32", upload=None)
    rows = {row["what"]: row for row in candidate_rows(Settings(torch.device("cpu"), "small", True, None, None), rates)}
    one, four = (rows[f"candidate, {each} a picture"] for each in (1, 4))
    for row in (one, four):
        assert row["floor_seconds"] == pytest.approx(sum(row["floors"].values()))
        assert row["ratio"] == pytest.approx(row["seconds"] / row["floor_seconds"])
        assert sum(row["phases"].values()) <= row["seconds"]
    # 16 questions: their pictures' 192 tokens are read 16 times or 4 times.
    assert 0.2 < four["floors"]["prefill"] / one["floors"]["prefill"] < 0.6
    assert rows["base tile alone"]["floors"]["prefill"] < 0.5 * one["floors"]["prefill"]
    plain = rows["plain transformers, 1 a picture"]
    assert plain["times_ours"] == pytest.approx(plain["seconds"] / one["seconds"])
    assert plain["equal_first_words"] > 0.8, "the same weights, prompts and pictures"


def test_ways_of_answering_are_ranked_against_the_whole_one():
    rows = list(compared(torch.device("cpu"), RECIPE, candidates=2, items=4))
    assert [row["what"] for row in rows][:2] == ["float32", "float32, generate"]
    by_way = {row["what"]: row for row in rows}
    assert by_way["float32, generate"]["equal_answers"] == 1.0
    assert by_way["float32"]["kendall"] == pytest.approx(1.0)
    assert by_way["float32, greedy"]["against"] == "float32, 5 beams"


def test_more_questions_cost_more_unless_they_share_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(64, 128, 2, 4, 2, 1000))
    rates = Rates("cpu", copy=1e9, matrix=1e10, dtype="float32", upload=None)
    rows = list(question_rows(Settings(torch.device("cpu"), "small", True, None, None), rates))
    assert [(row["questions"], row["a_picture"]) for row in rows] == [
        *((count, 1) for count in (4, 8, 16, 32)), *((16, each) for each in (2, 4, 8)),
    ]  # fmt: skip
    floors = [row["floors"]["prefill"] for row in rows]
    assert floors[:4] == sorted(floors[:4])
    assert floors[2] > floors[4] > floors[5] > floors[6]
    drawn = draw_growth({"questions": rows}, tmp_path / "growth.svg")
    assert [path.name for path in drawn] == ["growth-questions.svg"]
    assert drawn[0].read_text().count("<circle") == len(rows)


def test_the_base_tile_is_ranked_against_all_tiles_of_pictures_that_have_some():
    rows = list(tiles_rows(Settings(torch.device("cpu"), "small", True, None, None), Rates("cpu", 1e9, 1e10, "", None)))
    assert [row["what"] for row in rows] == ["all tiles", "base tile alone"]
    assert rows[0]["equal_answers"] == 1.0
    assert rows[1]["equal_answers"] < 1.0, "the tiles are looked at"
    assert rows[1]["loss"] > 0


def test_cheaper_answers_are_ranked_at_full_size_against_a_hidden_merge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(SCALES, "small", Scale(64, 128, 2, 4, 2, 1000))
    rates = Rates("cpu", copy=1e9, matrix=2e10, dtype="float32", upload=None)
    settings = Settings(torch.device("cpu"), "small", False, None, None, candidates=5)
    rows = list(ranks_rows(settings, rates))
    assert [row["what"] for row in rows] == list(WAYS)
    full = rows[0]
    assert (full["kendall"], full["spearman"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (full["same_best"], full["best_promoted"], full["equal_answers"], full["times_faster"]) == (True, True, 1, 1)
    assert len(set(full["scores"])) > 2, "near candidates answer more like the hidden merge than far ones"
    distances = [np.hypot(*(np.array(weights(one)) - HIDDEN)) for one in candidates_of(recipe_of(2, "dare_ties"), 5)]
    assert kendalltau(distances, full["scores"]).statistic < -0.3
    assert all(row["seconds"] > 0 and len(row["scores"]) == row["candidates"] == 5 for row in rows)
    assert all(row["scores"] != full["scores"] for row in rows[1:]), "cheaper answers are other answers"
    told = capsys.readouterr().err
    assert "ranks: base tile alone, 8-bit products: 5 of 5:" in told
    assert told.count("\n") == 1 + 4 * 5


def weights(recipe: Recipe) -> list[float]:
    found = [recipe.of(name).weight for name in recipe.source_names]
    return [weight for weight in found if isinstance(weight, float)]


def test_candidates_lie_around_the_hidden_merge_from_near_to_far():
    found = candidates_of(recipe_of(2, "dare_ties"), 12)
    distances = sorted(float(np.hypot(*(np.array(weights(one)) - HIDDEN))) for one in found)
    assert distances == pytest.approx(np.geomspace(0.02, 0.5, 12))
    assert found == candidates_of(recipe_of(2, "dare_ties"), 12)


def test_the_base_tile_is_the_whole_picture_and_the_tiles_are_its_parts():
    pixels = smooth_pixels(2, SMALL_EYES, torch.device("cpu"))["pixel_values"].float()
    assert pixels.shape == (2, 5, 3, 84, 84)
    rows = [torch.cat(list(pixels[0, 1 + 2 * row : 3 + 2 * row]), dim=-1) for row in (0, 1)]
    whole = torch.cat(rows, dim=-2)
    assert torch.allclose(torch.nn.functional.avg_pool2d(whole, 2), pixels[0, 0], atol=0.02)


def test_words_are_compared_by_their_longest_common_subsequence():
    assert rouge_l("a b c d", "a x c") == pytest.approx(200 * 2 / 7)
    assert (rouge_l("", ""), rouge_l("a", "a")) == (0.0, 100.0)


def test_the_better_half_is_rounded_and_has_at_least_one():
    assert better_half([1.0, 3.0, 3.0, 2.0]) == [1, 2]
    assert better_half([5.0]) == [0]


def test_a_number_of_candidates_for_other_parts_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["speed", "merge", "--candidates", "3"])
    assert stop.value.code == 2
    assert "--candidates: is for the part `ranks`" in capsys.readouterr().err


def test_preparing_is_measured_per_shape_and_summed_over_the_tower(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(24, 40, 2, 4, 2, 50))
    monkeypatch.setattr(prepare, "CHECKED", (18, 30))
    rows = list(prepare.prepare_rows(Settings(torch.device("cpu"), "small", False, None, None), FLAT))
    errors = [row["error"] for row in rows if row["what"] == "error"]
    assert len(errors) == 4
    assert max(errors) < 2e-6
    assert {(row["method"], row["sources"]) for row in rows if row["what"] == "tower, from these"} == {*prepare.PLANS}
    shapes = {row["shape"]: row["seconds"] for row in rows if _is(row, "one matrix")}
    counts = {"24 x 24": 4, "12 x 24": 4, "40 x 24": 4, "24 x 40": 2}
    (tower,) = [row["seconds"] for row in rows if _is(row, "tower, from these")]
    assert tower == pytest.approx(sum(shapes[shape] * count for shape, count in counts.items()))


def test_preparing_is_measured_for_the_methods_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(24, 40, 2, 4, 2, 50))
    monkeypatch.setattr(prepare, "CHECKED", (18, 30))
    settings = Settings(torch.device("cpu"), "small", False, None, None, methods=("iso_cts",))
    rows = list(prepare.prepare_rows(settings, FLAT))
    assert {(row["method"], row["sources"]) for row in rows if "tower" in row["what"]} == {
        ("iso_cts", 2),
        ("iso_cts", 3),
    }


def test_preparing_stops_at_its_budget_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SCALES, "small", Scale(24, 40, 2, 4, 2, 50))
    monkeypatch.setattr(prepare, "CHECKED", (18, 30))
    monkeypatch.setattr(prepare, "BUDGET", 0.0)
    rows = list(prepare.prepare_rows(Settings(torch.device("cpu"), "small", False, None, None), FLAT))
    unmeasured = [row for row in rows if row["what"].startswith("not measured")]
    assert len(unmeasured) == len(prepare.PLANS)
    assert not any("tower" in row["what"] for row in rows)


def _is(row: dict[str, object], what: str) -> bool:
    return (row["what"], row.get("method"), row.get("sources")) == (what, "tsv_m", 2)
