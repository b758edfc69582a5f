"""Tables of a terminal with 80 columns, in which a Japanese character takes two."""

import io
from pathlib import Path

import pytest
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from evovlm.cli.console import answers_tables, held_out_table, selection_bias_text, suggestions_table
from evovlm.evolution.suggest.advise import Advice, Suggestion
from evovlm.evolution.suggest.kinship import Kinship
from evovlm.recipe.schema import Recipe
from evovlm.study.held_out_log import HeldOutAnswer
from evovlm.study.result import Result
from evovlm_benchmarks.runner.tables import Sheet, print_sheet
from tests.command import evovlm_here
from tests.report.study_folder import RECIPE, cell, result
from tests.terminal import in_terminal

LONG = "これはとても長い答えです。" * 40


def printed(*tables: object) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= 80
    return str(text)


def answer(model: str, kind: str, text: str) -> HeldOutAnswer:
    row = {"model": model, "key": model, "id": "t", "question": LONG, "references": ["はい"], "answer": text}
    return HeldOutAnswer.model_validate(row | {"score": 0.0, "exact": False, "kind": kind})


def test_a_long_answer_is_cut_with_a_sign_and_a_short_one_is_whole():
    rows = [answer("ja", "sources", LONG), answer("evolved", "evolved", "青い\n丸です。")]
    lines = printed(*answers_tables(rows, [("sources", "ja"), ("evolved", "evolved")])).splitlines()
    assert len(lines) == 4, "a line each"
    by_name = {line.split()[0]: line.rstrip() for line in lines}
    assert by_name["ja"].endswith("…")
    assert by_name["question"].endswith("…")
    assert by_name["evolved"].endswith("青い 丸です。")


def test_numbers_of_the_held_out_table_are_whole_and_long_names_fold():
    from evovlm.recipe.schema import Recipe

    content = result(Recipe.model_validate(RECIPE))
    name = "日本語の長い名前のモデル-with-a-long-name-that-nobody-can-read"
    content["held_out"]["sources"][name] = cell(12.34, 0.5, -10.0)
    content["held_out"]["controls"]["sweep"] |= {"tries": 11, "chosen_on": "validation"}
    text = printed(held_out_table(Result.model_validate(content)))
    for number in ("12.34", "10.5–14.2", "50.0%", "-10.0 [-12.0, -8.0]", "+0.9 [-1.1, +2.9] n.s.", "11"):
        assert number in text, number
    lines = text.splitlines()
    wide = next(line for line in lines if line.startswith("model")).index("score")
    names = "".join(set_cell_size(line, wide).strip() for line in lines)
    assert name.replace("-", "") in names.replace("-", "")
    assert lines.index(next(line for line in lines if line.startswith("evolved"))) < lines.index(
        next(line for line in lines if line.startswith("plain average"))
    )


def test_what_answers_say_has_a_column_and_the_table_still_fits_80_columns():
    from evovlm.recipe.schema import Recipe

    content = result(Recipe.model_validate(RECIPE))
    held = content["held_out"]
    assert "content" not in printed(held_out_table(Result.model_validate(content)))
    for row in (held["evolved"], *held["sources"].values(), *held["controls"].values()):
        row |= {"content": 0.625, "content_ci95": [0.5, 0.75], "tries": 150, "chosen_on": "validation"}
        row["versus_evolved"] = {"mean": -12.3, "ci95": [-23.4, -1.2], "p_value": 0.03, "p_corrected": 0.09}
    held["controls"]["interpolation"] = {"error": "failed: every answer is empty"}
    lines = printed(held_out_table(Result.model_validate(content))).splitlines()
    assert max(map(cell_len, lines)) <= 80
    text = "\n".join(lines)
    assert text.count("62.5%") == 1 + len(held["sources"]) + len(held["controls"]) - 1
    assert "-12.3 [-23.4, -1.2] n.s." in text, "not significant once corrected, though the interval leaves zero out"
    words = " ".join(text.split())
    assert "content: answers that say the right thing, whatever their style and language" in words
    compared = len(held["sources"]) + len(held["controls"]) - 1
    assert f"not significant at 5 % after Holm's correction for {compared} comparisons" in words


def test_reasons_of_suggestions_are_whole():
    reason = "adds most to the base and to the other sources; better without its embeddings and layer 0"
    one = Suggestion("some-model", 100.0, 100.0, 50.0, -1.0, 100.0, 16.9, 2.0, (), reason)
    text = printed(suggestions_table(Advice(50.0, (one,), Kinship({}, {}, {}, {}), 10)))
    assert "+50.0 [-1.0, +100.0]" in text
    assert reason in " ".join(text.split())


def test_a_table_with_many_numbers_is_printed_in_parts():
    columns = ("model", *(f"measure {number}" for number in range(12)))
    rows = tuple((name, *(f"{number}.{number:02d}" for number in range(12))) for name in ("日本語のモデル", "b"))
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_sheet(console, Sheet("a task", columns, rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= 80
    assert text.count("日本語のモデル") == text.count("a task") == 3
    for column in columns:
        assert column in text


@pytest.mark.parametrize("cut", [True, False])
def test_a_long_text_among_others_is_cut_where_that_is_asked_for(cut: bool):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    print_sheet(console, Sheet("", ("model", "answer", "score"), (("ja", LONG, "1.0"),), words=2), cut=cut)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= 80
    assert ("…" in text) is cut
    assert (text.count("長") == 40) is not cut


@pytest.mark.parametrize(
    "words",
    [
        ("recipe", "list"),
        ("methods",),
        ("methods", "della"),
        ("recipe", "check", "zoo-vlm"),
        ("merge", "zoo-vlm", "out", "--dry-run"),
        ("evolve", "zoo-vlm", "--out", "out", "--dry-run", "--no-measure"),
        ("bench", "run", "zoo", "--dry-run"),
    ],
    ids=" ".join,
)
def test_commands_fit_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]):
    monkeypatch.setenv("COLUMNS", "80")
    done = evovlm_here(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if not line.startswith("recipe:")]
    assert max(map(cell_len, lines)) <= 80, max(lines, key=cell_len)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("doctor",),
        ("evaluate", "zoo:ja", "--data", "zoo-maths:test", "--items", "4"),
        ("suggest", "zoo:ja", "zoo:math", "--base", "zoo:base", "--data", "zoo-maths:search", "--items", "4"),
        ("bench", "run", "zoo", "--items", "2", "--only", "ja", "--only", "vlm", "--out", "bench"),
    ],
    ids=lambda words: words[0],
)
def test_commands_fit_a_terminal_of_80_columns(tmp_path: Path, words: tuple[str, ...]):
    seen = in_terminal(*words, folder=tmp_path, columns=80)
    assert seen.returncode == 0, seen.text[-2000:]
    assert cell_len(seen.widest()) <= 80, seen.widest()


def test_a_table_from_few_items_is_shown_with_its_caution():
    whole = Result.model_validate(result(Recipe.model_validate(RECIPE)))
    few = whole.model_copy(update={"data": whole.data.model_copy(update={"test_groups": 7})})
    assert "The test has 7 pictures" in " ".join(printed(held_out_table(few)).split())
    assert "The test has" not in printed(held_out_table(whole))


def test_a_rise_on_few_items_is_no_evidence_against_selection_bias():
    assert "no sign of selection bias" in selection_bias_text(-3.0)
    assert "too few items" in selection_bias_text(-3.0, few=True)
    assert "selection bias, or harder" in selection_bias_text(3.0, few=True)
