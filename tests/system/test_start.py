"""A program that loads its libraries for long says so."""

import re

import pytest

from evovlm.system import start


def test_loading_libraries_is_reported_if_it_takes_longer_than_a_moment(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with start._patience():
        pass
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(start, "FIRST_WORD", 0.01)
    with start._patience():
        start.time.sleep(0.5)
    assert re.fullmatch(r"starting: (under 1|1) s so far\n", capfd.readouterr().err)
