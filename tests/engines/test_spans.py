import pytest

from evovlm.engines._spans import Span, Spans


def test_a_run_comes_back_when_its_last_user_leaves():
    spans = Spans(10, 100)
    first, second = spans.take(60, 2), spans.take(40, 1)
    assert (first, second) == (Span(10, 60, 2), Span(70, 40, 1))
    assert not spans.holds([1])
    spans.give_back(first)
    assert not spans.holds([1])
    spans.give_back(first)
    assert spans.holds([30, 30])
    assert not spans.holds([30, 31])
    spans.give_back(second)
    assert spans.holds([100])


def test_neighbours_become_one_and_first_fit_fills_gaps():
    spans = Spans(0, 30)
    parts = [spans.take(10, 1) for _ in range(3)]
    spans.give_back(parts[0])
    spans.give_back(parts[2])
    with pytest.raises(MemoryError):
        spans.take(11, 1)
    assert spans.take(4, 1).start == 0
    assert spans.take(6, 1).start == 4
    assert spans.take(10, 1).start == 20


def test_nothing_takes_no_place():
    spans = Spans(0, 0)
    spans.give_back(spans.take(0, 3))
    assert spans.holds([0, 0])
