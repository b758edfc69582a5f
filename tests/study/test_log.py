import json
from pathlib import Path

import pytest

from evovlm.study import log as study_log
from evovlm.study.log import Trial
from evovlm.system import files
from evovlm.system.errors import StudyError


def trial(number: int, score: float | None = 1.0) -> Trial:
    return Trial(
        trial=number,
        generation=0,
        genome=(0.1, 0.2),
        digest="d",
        score=score,
        spread=0.0,
        exact=0.0,
        seconds={},
        error=None,
    )


def write(folder: Path, *trials: Trial) -> None:
    files.append_rows(folder / study_log.TRIALS, [one.model_dump(mode="json") for one in trials])


def test_trials_come_back_as_written(tmp_path: Path):
    write(tmp_path, trial(0), trial(1, None))
    assert study_log.read_trials(tmp_path) == [trial(0), trial(1, None)]


def test_a_torn_last_line_is_passed_over_and_cut_off(tmp_path: Path):
    write(tmp_path, trial(0))
    path = tmp_path / study_log.TRIALS
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"trial": 1, "gen')
    assert study_log.read_trials(tmp_path) == [trial(0)]
    files.mend_tail(path)
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path):
    write(tmp_path, trial(0))
    with (tmp_path / study_log.TRIALS).open("a") as file:
        file.write("garbage\n")
    with pytest.raises(StudyError, match=r"trials\.jsonl:2: damaged line"):
        study_log.read_trials(tmp_path)


def test_a_last_line_that_is_no_beginning_of_a_row_is_damage(tmp_path: Path):
    write(tmp_path, trial(0))
    whole = (tmp_path / study_log.TRIALS).read_bytes()
    for torn in (b"{", b'{"trial": 1', b"\0\0\0", b'{"tri\0\0'):
        (tmp_path / study_log.TRIALS).write_bytes(whole + torn)
        assert study_log.read_trials(tmp_path) == [trial(0)]
    for damage in (b"\xff\xfe", b"garbage", b"[1"):
        (tmp_path / study_log.TRIALS).write_bytes(whole + damage)
        with pytest.raises(StudyError, match=r"trials\.jsonl:2: damaged line"):
            study_log.read_trials(tmp_path)


def test_a_missing_trial_is_noticed(tmp_path: Path):
    write(tmp_path, trial(0), trial(2))
    with pytest.raises(StudyError, match="found trial 2, expected trial 1"):
        study_log.read_trials(tmp_path)


def test_a_line_that_is_no_trial_is_named(tmp_path: Path):
    files.append_rows(tmp_path / study_log.TRIALS, [{"trial": 0}])
    with pytest.raises(StudyError, match="not a trial"):
        study_log.read_trials(tmp_path)


def test_the_best_trial_is_the_earliest_of_equals_and_never_a_failed_one():
    trials = [trial(0, None), trial(1, 2.0), trial(2, 3.0), trial(3, 3.0)]
    best = study_log.best_trial(trials)
    assert best is not None
    assert best.trial == 2
    assert study_log.best_trial([trial(0, None)]) is None


def test_json_appears_whole_and_leaves_no_scratch_file(tmp_path: Path):
    files.write_json(tmp_path / "x.json", {"a": "日本"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": "日本"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_without_a_header_is_no_study(tmp_path: Path):
    with pytest.raises(StudyError, match="not a study folder"):
        study_log.read_header(tmp_path)


def test_a_damaged_header_is_named(tmp_path: Path):
    (tmp_path / study_log.HEADER).write_text("{")
    with pytest.raises(StudyError, match=r"study\.json: damaged"):
        study_log.read_header(tmp_path)


def test_a_score_from_fewer_questions_is_never_the_best(tmp_path: Path):
    cheap = trial(1, 90.0).model_copy(update={"promoted": False})
    write(tmp_path, trial(0, 50.0), cheap, trial(2, 60.0))
    best = study_log.best_trial(study_log.read_trials(tmp_path))
    assert best is not None
    assert best.trial == 2
    assert study_log.best_trial([cheap]) is None
    assert not study_log.tied([cheap, trial(2, 90.0)])
