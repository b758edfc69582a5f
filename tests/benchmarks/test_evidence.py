"""Evidence over training seeds and search seeds: real searches cut down, and tables from rows of known content."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.cli.entry import run_command
from evovlm.models.zoo_models import FOLDER, MANIFEST
from evovlm.recipe.shipped import named_recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study.result import Difference
from evovlm.system.errors import StudyError, UserError
from evovlm_benchmarks.evidence import __main__ as command
from evovlm_benchmarks.evidence.rows import Row, add_rows, read_rows, write_rows
from evovlm_benchmarks.evidence.runs import named_zoos, on_zoo, planned, run_all, words_of
from evovlm_benchmarks.evidence.tables import (
    claims,
    made_with,
    method_table,
    models_of,
    over_trainings,
    refuse_mixed,
    run_table,
)


@pytest.fixture(scope="module")
def other_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights under another manifest, which makes them another zoo for the harness."""
    folder = tmp_path_factory.mktemp("zoos") / "other"
    shutil.copytree(FOLDER, folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"seed": 77}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["zoo"], "is not TRAINING_SEED=FOLDER"),
        (["=zoo"], "is not TRAINING_SEED=FOLDER"),
        (["0=shipped", "0=shipped"], "given twice"),
        (["0=nowhere"], "nowhere has no manifest.json"),
    ],
)
def test_what_names_no_zoo_is_refused(given: list[str], told: str):
    with pytest.raises(UserError, match=told):
        named_zoos(given)


def test_each_run_has_a_recipe_of_its_zoo_and_its_seed(tmp_path: Path, other_zoo: Path):
    zoos = named_zoos(["0=shipped", f"1={other_zoo}"])
    runs = planned(named_recipe("zoo-vlm"), "zoo-vlm", zoos, range(2), ["--judged", "8"], tmp_path)
    assert len({run.folder for run in runs}) == 4
    for run in runs:
        recipe = read_recipe(run.folder / "recipe.yaml")
        assert recipe.base is not None
        models = [Path(recipe.root / model.model) for model in (recipe.base, *recipe.sources)]
        assert [model.resolve() for model in models] == [run.zoo / name for name in ("base", "vlm", "ja")]
        words = words_of(run, ["--judged", "8"])
        assert words[-3:] == ["--rivals", "--judged", "8"]
        assert words[words.index("--seed") + 1] == str(run.search)


def test_one_zoo_does_not_count_as_two(tmp_path: Path):
    with pytest.raises(UserError, match="training seeds 0 and 1 have the same zoo"):
        planned(named_recipe("zoo-vlm"), "zoo-vlm", named_zoos(["0=shipped", "1=shipped"]), [0], [], tmp_path)


def test_other_counts_are_other_searches(tmp_path: Path):
    folders = [
        planned(named_recipe("zoo-vlm"), "zoo-vlm", named_zoos(["0=shipped"]), [0], ["--judged", judged], tmp_path)[0]
        for judged in ("24", "30")
    ]
    assert folders[0].folder != folders[1].folder


def test_models_that_are_not_of_the_zoo_stay(tmp_path: Path):
    recipe = named_recipe("evovlm-jp")
    assert on_zoo(recipe, FOLDER) == recipe


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_flags_are_kept_bit_for_bit(flags: list[bool]):
    assert row(flags=flags).flags == flags


def row(
    name: str = "evolved", kind: str = "evolved", training: str = "0", search: int = 0, *, flags: list[bool],
    versus: tuple[float, float] = (0.0, 1.0),
) -> Row:  # fmt: skip
    mean, corrected = versus
    share = sum(flags) / len(flags)
    difference = Difference(mean=mean, ci95=(mean - 1, mean + 1), p_value=corrected, p_corrected=corrected)
    return Row(
        recipe="zoo-vlm", training=training, search=search, kind=kind, name=name, score=50.0, ci95=(40.0, 60.0),
        exact=share, content=share, content_ci95=(0.0, 1.0), content_versus_evolved=difference,
        versus_evolved=difference, items=len(flags), said=f"{int(''.join('01'[f] for f in flags), 2):x}", tries=5,
        chosen_on="validation", trials=150, search_items=300, test="zoo-vlm:test", zoo="abc", digest="d", commit="c1",
        versions={"torch": "2"}, hardware="h",
    )  # fmt: skip


RUNS = [("0", 0), ("0", 1), ("1", 0), ("1", 1), ("2", 0), ("2", 1)]


def table_of(control: list[tuple[float, float]], source: float = 30.0) -> list[Row]:
    """Six runs in which the control is behind by these points, with these corrected p-values."""
    rows = []
    for (training, search), versus in zip(RUNS, control, strict=True):
        of = {"training": training, "search": search}
        rows += [
            row("ja", "sources", **of, flags=[True, False, False, False], versus=(source, 0.01)),  # type: ignore[arg-type]
            row(**of, flags=[True, True, True, False]),  # type: ignore[arg-type]
            row("tsv", "controls", **of, flags=[True, True, False, False], versus=versus),  # type: ignore[arg-type]
            row("shuffled_images", "controls", **of, flags=[False] * 4, versus=(75.0, 0.01)),  # type: ignore[arg-type]
            row("prior", "controls", **of, flags=[True, False, False, False], versus=(50.0, 0.01)),  # type: ignore[arg-type]
        ]
    return rows


def test_a_claim_holds_if_at_most_one_run_of_six_is_against_it():
    good, unsure, worse = (5.0, 0.01), (5.0, 0.2), (-5.0, 0.01)
    told = claims(table_of([good] * 5 + [unsure]))
    assert "points of content in every run: **holds** (least +30.0, mean +30.0 over 6 runs)" in told[0]
    assert told[1].startswith(
        "Above TSV-M, best single weight, p below 5 % after the correction: **holds** (5 of 6 runs"
    )
    assert len(told) == 3, "neither shuffled images nor the guesser is a rival"
    assert "in 0.0 % of its answers" in told[2]
    assert "the guesser that sees the question alone in 25.0 %" in told[2]
    for against in ([good] * 4 + [unsure] * 2, [good] * 4 + [worse] * 2):
        assert "**does not hold** (4 of 6 runs" in claims(table_of(against))[1]
    assert "**does not hold** (least +19.9" in claims(table_of([good] * 6, source=19.9))[0]


def test_tables_have_every_model_and_run_with_differences():
    rows = table_of([(5.0, 0.01)] * 5 + [(1.0, 0.2)])
    by_run, overall = run_table(rows).splitlines(), method_table(rows).splitlines()
    assert by_run[0].count("training") == 6
    assert [line.split(" | ")[0].strip("| *") for line in by_run[2:]] == [
        *("ja", "evolved", "TSV-M, best single weight", "evolved, images shuffled"),
        "guesser that sees the question alone",
    ]
    assert "50.0; +5.0 [+4.0, +6.0] |" in by_run[4]
    assert by_run[4].endswith("50.0; +1.0 [+0.0, +2.0] n.s. |")
    assert {line.count("|") for line in by_run} == {9}
    assert {line.count("|") for line in overall} == {7}
    assert overall[4].endswith("| 5 of 6 runs |")
    assert "Commit c1, torch 2; h." in made_with(rows)


def test_a_model_that_failed_in_one_run_is_in_no_table_and_that_is_told():
    rows = table_of([(5.0, 0.01)] * 6)
    assert ("controls", "tsv") in models_of(rows)
    fewer = [one for one in rows if (one.name, one.run) != ("tsv", ("1", 0))]
    assert ("controls", "tsv") not in models_of(fewer)
    assert claims(fewer)[0] == "TSV-M, best single weight is in no table and no claim: it has no score in every run."
    assert not [sentence for sentence in claims(fewer) if sentence.startswith("Above TSV-M")]


def test_what_cannot_stand_in_one_table_is_refused():
    rows = table_of([(5.0, 0.01)] * 6)
    refuse_mixed(rows)
    with pytest.raises(UserError, match=r"other counts \(9 candidates, 300 and 4 items; 150 candidates, 300 and 4"):
        refuse_mixed([rows[0].model_copy(update={"trials": 9}), *rows[1:]])
    with pytest.raises(UserError, match="other search seeds"):
        refuse_mixed([one for one in rows if one.run != ("1", 1)])
    with pytest.raises(UserError, match="training 1, search 0: no source has a score"):
        refuse_mixed([one for one in rows if (one.run, one.kind) != (("1", 0), "sources")])


def test_the_difference_over_trainings_is_of_the_answers_themselves():
    found = over_trainings(table_of([(5.0, 0.01)] * 6), ("controls", "tsv"))
    assert found.mean == 25.0  # one answer of four
    assert found.low < 25.0 < found.high


def test_rows_of_a_run_replace_its_own_and_no_others(tmp_path: Path):
    rows, path = table_of([(5.0, 0.01)] * 6), tmp_path / "rows.jsonl"
    write_rows(path, rows)
    again = [one.model_copy(update={"score": 77.0}) for one in rows if one.run == ("1", 0)]
    add_rows(path, again)
    found = read_rows(path)
    assert len(found) == len(rows)
    assert [one.score for one in found if one.run == ("1", 0)] == [77.0] * len(again)
    assert [one for one in found if one.run != ("1", 0)] == [one for one in rows if one.run != ("1", 0)]
    other = [one.model_copy(update={"recipe": "zoo-llm"}) for one in again]
    add_rows(path, other)
    assert len(read_rows(path)) == len(rows) + len(other)


def test_rows_are_read_as_they_were_written_and_others_are_named(tmp_path: Path):
    rows, path = table_of([(5.0, 0.01)] * 6), tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    write_rows(path, rows)
    assert read_rows(path) == rows
    path.write_text(path.read_text(encoding="utf-8") + '{"recipe": 1}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl:31: no row of evidence \(recipe: .*choose another file"):
        read_rows(path)
    path.write_text("{\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl:1: damaged line; choose another file, or remove this one"):
        read_rows(path)


@pytest.mark.slow
def test_searches_of_two_zoos_end_in_tables_and_are_not_run_twice(
    tmp_path: Path, other_zoo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["zoo-vlm", "--zoo", "0=shipped", "--zoo", f"1={other_zoo}", "--searches", "1", "--trials", "2"]
    words += ["--items", "4", "--judged", "12", "--jobs", "2", "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", ["evidence", *words, "--out", str(tmp_path / "rows.jsonl")])

    def run() -> str:
        with pytest.raises(SystemExit) as stop:
            run_command(command.evidence)
        assert stop.value.code == 0
        return capsys.readouterr().out

    told = run()
    rows = read_rows(tmp_path / "rows.jsonl")
    assert {one.run for one in rows} == {("0", 0), ("1", 0)}
    names = {one.name for one in rows}
    assert {"base", "vlm", "ja", "evolved", "prior", "restyled", "tsv", "random_search", "whole_model"} <= names
    for one in rows:
        assert one.content == pytest.approx(sum(one.flags) / one.items)
    twins = [[(one.name, one.score, one.said) for one in rows if one.training == seed] for seed in "01"]
    assert twins[0] == twins[1], "the same weights"
    assert "Above every source by 20 points of content in every run:" in told
    assert "| best interpolation between two sources | " in told
    log = (tmp_path / "work").glob("*/*/study/events.jsonl")
    before = {path: path.read_text(encoding="utf-8") for path in log}
    assert len(before) == 2
    assert run() == told
    trials = [path.parent / "trials.jsonl" for path in before]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) == 2 for path in trials)

    # Answers that are not those of the table are no evidence, and what fails does not take the others along.
    (tmp_path / "rows.jsonl").unlink()
    answers = next(path.parent / "heldout_answers.jsonl" for path in before)
    lines = answers.read_text(encoding="utf-8").splitlines(keepends=True)
    answers.write_text("".join(line for line in lines if '"evolved"' not in line), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        run_command(command.evidence)
    assert stop.value.code == 2
    assert "remove the folder, and run again" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_search_that_fails_is_told_at_the_end_and_the_others_have_their_rows(tmp_path: Path, other_zoo: Path):
    options = ["--trials", "1", "--items", "2", "--judged", "4"]
    zoos = named_zoos(["0=shipped", f"1={other_zoo}"])
    runs = planned(named_recipe("zoo-vlm"), "zoo-vlm", zoos, [0], options, tmp_path)
    runs[0].study.mkdir()
    (runs[0].study / "foreign.txt").write_text("x", encoding="utf-8")
    ended: list[str] = []
    with pytest.raises(StudyError, match="1 of 2 searches failed: zoo 0, search seed 0 ended with 2"):
        run_all(runs, options, jobs=1, done=lambda run: ended.append(run.training))
    assert ended == ["1"]
