from dataclasses import replace
from pathlib import Path
from typing import Any

from evovlm.report.data import StudyData, read_study
from evovlm.report.words import does_not_show, shows
from evovlm.study.result import Cell
from tests.report.study_folder import cell, make_study


def with_source(study: StudyData, found: dict[str, Any]) -> StudyData:
    assert study.result is not None
    held_out = study.result.held_out.model_copy(update={"sources": {"ja": Cell.model_validate(found)}})
    return replace(study, result=study.result.model_copy(update={"held_out": held_out}))


def test_a_difference_is_claimed_only_where_its_interval_leaves_zero_out(study: Path):
    data = read_study(study)
    assert "better, by more" in " ".join(shows(with_source(data, cell(20, 0, 5.0))))
    assert "worse, by more" in " ".join(shows(with_source(data, cell(99, 0, -5.0))))
    first = " ".join(shows(with_source(data, cell(59, 0, 1.0))))
    assert "better, by more" not in first
    assert "the difference is not significant" in first


def test_a_difference_that_is_not_significant_once_corrected_is_not_claimed(study: Path):
    found = cell(20, 0, 5.0)
    low, high = found["versus_evolved"]["ci95"]
    assert 0 < low < high
    found["versus_evolved"] |= {"p_value": 0.03, "p_corrected": 0.2}
    text = " ".join(shows(with_source(read_study(study), found)))
    assert "better, by more" not in text
    assert "not significant once corrected for all comparisons" in text
    found["versus_evolved"]["p_corrected"] = 0.04
    assert "better, by more" in " ".join(shows(with_source(read_study(study), found)))


def test_what_answers_say_is_told_where_it_is_known(study: Path):
    data = read_study(study)
    assert "say the right thing" not in " ".join(shows(data))
    assert data.result is not None
    evolved = data.result.held_out.evolved.model_copy(update={"content": 0.75})
    held_out = data.result.held_out.model_copy(
        update={"evolved": evolved, "sources": {"ja": Cell.model_validate(cell(20, 0, 5.0) | {"content": 0.125})}}
    )
    known = replace(data, result=data.result.model_copy(update={"held_out": held_out}))
    assert "say the right thing in 75.0%, those of a source at most in 12.5%" in " ".join(shows(known))


def test_a_control_that_does_as_well_is_told(study: Path):
    text = " ".join(shows(read_study(study)))
    assert "best control (best single weight for all task vectors)" in text
    assert "the difference is not significant" in text


def test_the_winners_curse_is_told_with_its_figures(study: Path):
    text = does_not_show(read_study(study))[0]
    for part in ("winner's curse", "63.50", "60.25", "-3.25"):
        assert part in text


def test_a_test_of_few_items_is_no_evidence(study: Path):
    data = read_study(study)
    assert data.result is not None
    few = data.result.model_copy(update={"data": data.result.data.model_copy(update={"test_groups": 7})})
    assert "too narrow" in " ".join(does_not_show(replace(data, result=few)))
    assert "too narrow" not in " ".join(does_not_show(data))


def test_an_unfinished_search_claims_nothing(tmp_path: Path):
    data = read_study(make_study(tmp_path / "mid", trials=10, finished=False))
    assert "only that the search is running" in shows(data)[0]
    assert "wait for the held-out scores" in does_not_show(data)[0]
