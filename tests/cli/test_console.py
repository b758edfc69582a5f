"""What is told of a search where no terminal is."""

import pytest

from evovlm.cli.console import LineWatch


def test_lines_tell_how_far_and_how_well(capsys: pytest.CaptureFixture[str]):
    watch = LineWatch(pause=0)
    watch.phase("search", 3)
    watch.step("trial 0", score=None)
    watch.step("trial 1", score=40.0)
    watch.step("trial 2", score=30.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "search: 3 to do"
    assert [line.rsplit(", about", 1)[0] for line in lines[1:]] == [
        "search: 1/3",
        "search: 2/3, best 40.00",
        "search: 3/3, best 40.00",
    ]
    assert lines[-1].endswith("about 0 s left")


def test_lines_are_few_but_the_last_comes(capsys: pytest.CaptureFixture[str]):
    watch = LineWatch(pause=1000)
    watch.phase("choice", 3)
    for score in (1.0, 2.0, 3.0):
        watch.step("candidate", score=score)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_more_steps_than_were_foreseen_are_counted_without_a_promise(capsys: pytest.CaptureFixture[str]):
    watch = LineWatch(pause=0)
    watch.phase("held out", 1)
    watch.step("base")
    watch.step("vlm")
    assert capsys.readouterr().err.splitlines()[-1] == "held out: 2 done"
