"""Candidates that fail in a study: which are logged, which stop the search, and when there are too many."""

import errno
from pathlib import Path

import pytest
import torch

from evovlm.recipe.schema import Recipe
from evovlm.study import log as study_log
from evovlm.study.study import Study
from evovlm.system.errors import CandidateFault, MachineFault, NotFinite, StudyError, UnfitValues, UserError
from tests.known import Known
from tests.study.known_study import GENES, RECIPE, header, logged, peak, run


@pytest.mark.parametrize(
    "fault",
    [
        FloatingPointError("NaN"),
        CandidateFault("every answer is empty"),
        UnfitValues("weight: linear's weights sum to 0"),
    ],
)
def test_a_failing_candidate_is_logged_and_cannot_win(tmp_path: Path, fault: Exception):
    def sometimes(recipe: Recipe) -> Known:
        if peak(recipe).score > 99.95:
            raise fault
        return peak(recipe)

    study = run(tmp_path / "s", 40, sometimes)
    failed = [trial for trial in study.trials if trial.error]
    assert failed
    assert all(type(fault).__name__ in (trial.error or "") and trial.score is None for trial in failed)
    assert study.best().score is not None
    assert (study.best().score or 0.0) <= 99.95


def test_a_score_that_is_not_finite_is_a_failure(tmp_path: Path):
    calls = iter(range(100))
    study = run(tmp_path / "s", 16, lambda recipe: Known(float("nan")) if next(calls) % 2 else peak(recipe))
    assert [trial.error is not None for trial in study.trials] == [bool(index % 2) for index in range(16)]


def test_a_programming_error_is_not_swallowed(tmp_path: Path):
    def broken(recipe: Recipe) -> Known:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        run(tmp_path / "s", 8, broken)


def test_a_generation_in_which_all_fail_ends_the_study_with_the_reason(tmp_path: Path):
    def fail(recipe: Recipe) -> Known:
        raise RuntimeError("no kernel for this device")

    with pytest.raises(StudyError, match="no kernel for this device"):
        run(tmp_path / "s", 30, fail)


@pytest.mark.parametrize(
    "fault",
    [
        StudyError("the files of `ja` differ"),
        MachineFault("MeCab cannot open this dictionary"),
        MemoryError("none"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda fault: f"{type(fault).__name__}-{str(fault)[:20]}",
)
def test_what_the_machine_or_the_user_lacks_stops_the_search_and_logs_no_trial(tmp_path: Path, fault: Exception):
    calls = iter(range(100))

    def lacking(recipe: Recipe) -> Known:
        if next(calls) == 3:
            raise fault
        return peak(recipe)

    with pytest.raises(UserError) as told:
        run(tmp_path / "s", 16, lacking)
    assert str(fault).splitlines()[0] in str(told.value)
    assert logged(tmp_path / "s").count(b"\n") == 3
    # With what it lacked, the same command ends as if nothing had happened.
    run(tmp_path / "s", 16)
    run(tmp_path / "whole", 16)
    assert logged(tmp_path / "s") == logged(tmp_path / "whole")


def test_a_full_disk_stops_the_search_and_logs_no_trial(tmp_path: Path):
    def full(recipe: Recipe) -> Known:
        raise OSError(errno.ENOSPC, "No space left on device", "answers.sqlite")

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "s", 16, full)
    assert not (tmp_path / "s" / study_log.TRIALS).exists()


def test_five_unforeseen_failures_in_a_row_stop_the_search(tmp_path: Path):
    calls = iter(range(100))

    def breaks(recipe: Recipe) -> Known:
        if next(calls) in (1, 2, 3, 4, 6, 7, 8, 9, 10):
            raise RuntimeError("an unknown kernel error")
        return peak(recipe)

    with pytest.raises(StudyError, match=r"5 candidates in a row failed .*an unknown kernel error"):
        run(tmp_path / "s", 30, breaks)
    assert logged(tmp_path / "s").count(b"\n") == 11
    # The reason mended, the same command goes on.
    assert len(run(tmp_path / "s", 30).trials) == 30


def test_candidates_own_failures_are_no_reason_to_stop_before_twenty(tmp_path: Path):
    calls = iter(range(100))

    def fails(recipe: Recipe) -> Known:
        if next(calls) < 19:
            raise NotFinite("model.norm.weight: the merged weights are not finite")
        return peak(recipe)

    assert len(run(tmp_path / "s", 24, fails).trials) == 24


def test_twenty_candidates_without_a_score_stop_the_search_now_and_when_resumed(tmp_path: Path):
    def fails(recipe: Recipe) -> Known:
        raise NotFinite("the logits are not finite")

    for _ in range(2):
        with pytest.raises(StudyError, match=r"none of the first 20 .*the logits are not finite"):
            run(tmp_path / "s", 60, fails)
        assert logged(tmp_path / "s").count(b"\n") == 20


def test_a_population_of_more_than_twenty_is_waited_for(tmp_path: Path):
    study = Study.open(tmp_path / "s", RECIPE, GENES, header())
    for done in range(1, 31):
        study.refuse_hopeless(done - 1, 30)
        study.add(0, [0.5] * len(GENES), "FloatingPointError: the logits are not finite")
    with pytest.raises(StudyError, match="none of the first 30"):
        study.refuse_hopeless(30, 30)
