"""Baseline searches: one that fails is a row, and is taken up again by the study's next resume."""

from pathlib import Path
from typing import Any

import pytest

from evovlm.evaluators.local import LocalEvaluator
from evovlm.recipe.schema import Recipe
from evovlm.study import log as study_log
from evovlm.study.result import Cell, FailedRow
from evovlm.system.errors import MachineFault, NotFinite
from tests.evolution.small_studies import Noting, evolve

RIVALS = ("random_search", "whole_model")
Faults = list[Exception]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Raised in turn, the last one again and again, by each candidate of the random search; none if it is empty."""
    raised: Faults = []
    evaluate = LocalEvaluator.evaluate

    def failing(self: LocalEvaluator, recipe: Recipe, items: Any, *more: Any) -> Any:
        search = recipe.search
        if raised and search is not None and search.algorithm == "random":
            raise raised[0] if len(raised) == 1 else raised.pop(0)
        return evaluate(self, recipe, items, *more)

    monkeypatch.setattr(LocalEvaluator, "evaluate", failing)
    return raised


TRANSIENT: list[Faults] = [
    [RuntimeError("shapes")],  # five in a row
    [MemoryError("12 GB")],
    [KeyError("lm_head")],
    [ValueError("one"), OSError(2, "No such file or directory")],
]


@pytest.mark.parametrize("transient", TRANSIENT, ids=["five in a row", "memory", "a bug", "a file"])
def test_a_baseline_search_that_fails_is_a_row_and_is_taken_up_again(
    place: Path, faults: Faults, transient: Faults, asked: list[int]
):
    faults += transient
    found = evolve(place, "s", trials=6, rivals=True)
    row = found.held_out.controls["random_search"]
    assert isinstance(row, FailedRow)
    assert row.error.startswith("failed: ")
    assert row.again
    assert isinstance(found.held_out.controls["whole_model"], Cell)
    logged = len(study_log.read_trials(place / "s/rivals/random_search"))
    assert logged < 6
    evolve(place, "s", trials=6)
    assert len(study_log.read_trials(place / "s/rivals/random_search")) == logged, "without --rivals nobody asks for it"
    faults.clear()
    again = evolve(place, "s", trials=6, rivals=True)
    assert all(isinstance(again.held_out.controls[name], Cell) for name in RIVALS)
    assert len(study_log.read_trials(place / "s/rivals/random_search")) == 6
    watch, count = Noting(), len(asked)
    assert evolve(place, "s", watch=watch, trials=6, rivals=True) == again
    assert (watch.phases, len(asked)) == ([], count)


def test_a_baseline_search_without_any_score_is_a_row_that_stays(place: Path, faults: Faults, asked: list[int]):
    faults.append(NotFinite("the logits are not finite"))
    found = evolve(place, "s", trials=3, rivals=True)
    row = found.held_out.controls["random_search"]
    assert isinstance(row, FailedRow)
    assert "no candidate has a score (the logits are not finite)" in row.error
    count = len(asked)
    assert evolve(place, "s", trials=3, rivals=True) == found
    assert len(asked) == count


def test_what_the_machine_lacks_ends_a_baseline_search_with_a_sentence(place: Path, faults: Faults):
    faults.append(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(MachineFault, match="the GPU cannot be used any more"):
        evolve(place, "s", rivals=True)


def test_a_damaged_log_of_a_baseline_search_is_a_row(place: Path):
    found = evolve(place, "s", rivals=True)
    path = place / "s/rivals/whole_model" / study_log.TRIALS
    path.write_text("{}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert evolve(place, "s", rivals=True) == found, "nothing is left to do"
    row = evolve(place, "s", rivals=True, judged=4).held_out.controls["whole_model"]
    assert isinstance(row, FailedRow)
    assert "trials.jsonl:1: not a trial" in row.error
