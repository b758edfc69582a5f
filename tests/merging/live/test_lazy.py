"""A candidate is merged as far as its reader has asked, in order, and what broke is not read."""

from collections.abc import Iterator
from functools import partial

import pytest

from evovlm.merging.live.lazy import Pending


def steps(seen: list[int], fault: bool = False) -> Iterator[int]:
    for there in (0, 0, 1, 3, 9):
        seen.append(there)
        yield there
    if fault:
        raise FloatingPointError("model.norm.weight: the merged weights are not finite")


def test_no_more_is_merged_than_a_layer_needs():
    seen: list[int] = []
    pending = Pending()
    pending.begin(steps(seen))
    assert seen == []
    pending.need(0)
    assert seen == [0, 0, 1]
    pending.need(0)
    assert seen == [0, 0, 1]
    pending.need(1)
    pending.need(2)
    assert seen == [0, 0, 1, 3]
    pending.finish()
    assert seen == [0, 0, 1, 3, 9]


def test_nothing_is_pending_before_and_after():
    pending = Pending()
    pending.need(3)
    pending.finish()
    assert not pending.drop()
    seen: list[int] = []
    pending.begin(steps(seen))
    pending.finish()
    assert not pending.drop()


def test_a_candidate_that_was_dropped_goes_no_further_and_the_next_begins_anew():
    seen: list[int] = []
    pending = Pending()
    pending.begin(steps(seen))
    pending.need(2)
    assert pending.drop()
    pending.finish()
    assert seen == [0, 0, 1, 3]
    pending.begin(steps(seen))
    pending.need(0)
    assert seen == [0, 0, 1, 3, 0, 0, 1]


def test_a_candidate_that_broke_is_not_read_by_whoever_tries_again():
    pending = Pending()
    pending.begin(steps([], fault=True))
    pending.need(8)
    with pytest.raises(FloatingPointError, match=r"model\.norm\.weight"):
        pending.finish()
    assert pending.broken
    for again in (pending.finish, partial(pending.need, 0)):
        with pytest.raises(RuntimeError, match="failed half way"):
            again()
    seen: list[int] = []
    pending.begin(steps(seen))
    pending.finish()
    assert len(seen) == 5


def test_a_candidate_that_broke_can_be_dropped():
    pending = Pending()
    pending.begin(steps([], fault=True))
    with pytest.raises(FloatingPointError):
        pending.finish()
    assert pending.drop()
    pending.finish()
