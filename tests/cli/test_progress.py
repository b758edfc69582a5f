"""What is shown of long work: which row, how far, how long still; on terminals, without one, and to machines."""

import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from evovlm.cli import _screens, progress
from evovlm.cli._phase import Phase
from evovlm.cli._screens import LineScreen
from evovlm.cli.progress import JsonWatch, ShownWatch
from tests.command import evovlm_here
from tests.terminal import python_in_terminal

SMALL = ("--trials", "2", "--items", "8", "--judged", "40", "--checkpoint")


def test_the_time_left_follows_from_the_steps_and_the_questions_within_one():
    phase = Phase("choice", 10, began=0.0)
    assert phase.clock(5.0) == "5 s so far"
    phase.part, phase.answered, phase.heard = "trial 3", (75, 300), True
    assert phase.left(5.0) == pytest.approx(5.0 / 0.25 * 9.75)
    assert phase.clock(5.0) == "3 min 15 s left"
    phase.step({"score": 40.0})
    assert phase.left(20.0) == pytest.approx(20.0 * 9)
    assert (phase.count(), phase.figures()) == ("1/10", "best 40.00")


def test_work_that_is_left_never_takes_no_time():
    phase = Phase("search", 3, began=0.0, done=2)
    assert phase.clock(0.001) == "1 s left"
    phase.ended = 0.001
    assert phase.clock(9.0) == "took under 1 s"


def test_steps_that_were_found_say_nothing_about_the_time_left():
    logged = Phase("search", 100, began=0.0)
    for _ in range(50):
        logged.step({"score": 1.0})
    logged.resume(3.0)
    assert logged.left(10.0) is None
    logged.step({"score": 2.0})
    assert logged.left(13.0) == pytest.approx(10.0 * 49)
    cached = Phase("choice", 10, began=0.0)
    for _ in range(5):
        cached.step({"score": 1.0})  # no question was asked
    cached.part, cached.answered, cached.heard = "trial 7", (10, 20), True
    assert cached.left(6.0) == pytest.approx(6.0 / 0.5 * 4.5)


def test_a_phase_ends_with_its_last_step_and_more_steps_are_told_too(capsys: pytest.CaptureFixture[str]):
    lines = LineScreen(pause=1000)
    watch = ShownWatch(lines)
    watch.phase("held out", 1)
    watch.step("base")
    assert capsys.readouterr().err == "held out: 1 to do\nheld out: 1 done, took under 1 s\n"
    watch.step("vlm")
    watch.close()
    lines.close()
    assert capsys.readouterr().err == "held out ...\nheld out: 1 done, took under 1 s\n"


def test_lines_are_few_and_the_last_comes(capsys: pytest.CaptureFixture[str]):
    lines = LineScreen(pause=1000)
    watch = ShownWatch(lines)
    watch.phase("choice", 3)
    for score in (1.0, 3.0, None):
        watch.part("trial", 1, 2)
        watch.step("candidate", score=score)
    watch.close()
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "choice: 3 to do",
        "choice: 3 done, best 3.00, failed 1, took under 1 s",
    ]


def test_short_work_of_unknown_length_is_not_told_and_long_work_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    lines = LineScreen(pause=1000)
    watch = ShownWatch(lines)
    with watch.busy("loading"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "SILENT", 0.01)
    with watch.busy("hashing"):
        lines._over.wait(0.6)
    lines.close()
    assert re.fullmatch(r"hashing: .* so far\nhashing: took .*\n", capsys.readouterr().err)


def test_work_that_fails_took_no_time_and_its_parts_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SILENT", 0.01)
    lines = LineScreen(pause=1000)
    watch = ShownWatch(lines)

    def fail() -> None:
        with watch.busy("starting the app") as doing:
            doing("opening the models")
            lines._over.wait(0.6)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    lines.close()
    assert re.fullmatch(r"starting the app: opening the models, .* so far\n", capsys.readouterr().err)


@pytest.mark.slow
def test_evaluate_and_suggest_say_how_far_and_how_long_still_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    words = ("--data", "zoo-maths:search", "--items", "150")
    done = evovlm_here("evaluate", "zoo:ja", *words, "--batch", "50", folder=tmp_path)
    assert re.search(r"loading: .*took.*\nquestions: 150 to do\n(.*\n)*questions: 50/150, .* left", done.stderr)
    done = evovlm_here("suggest", "zoo:ja", "zoo:math", "--base", "zoo:base", *words[:3], "8", folder=tmp_path)
    assert re.search(
        r"task vectors: \d+ to do\n(.*\n)*merges: 6 to do\n(.*\n)*merges: 3/6, .* left\n(.*\n)*merges: 6 done",
        done.stderr,
    )


def test_the_time_left_counts_steps_that_are_made_together():
    """A race tells its candidates at its end: 100 s for half of four, so 300 s for the other two and four more."""
    phase = Phase("search", 8, began=0.0)
    phase.ask("generation 0, answers", (10, 20), 4)
    assert phase.left(100.0) == pytest.approx(300.0)
    for _ in range(4):
        phase.step({"score": 1.0})
    assert phase.left(200.0) == pytest.approx(200.0), "all four were asked, though one part was heard"
    phase.ask("generation 1, answers", (15, 20), 4)
    assert phase.left(350.0) == pytest.approx(50.0)
    last = Phase("search", 6, began=0.0, done=4)
    last.ask("generation 1, answers", (5, 20), 4)
    assert last.left(250.0) == pytest.approx(150.0), "the last generation is made whole, though two trials are missing"


def test_machines_get_a_line_now_and_then(capsys: pytest.CaptureFixture[str]):
    watch = JsonWatch(pause=1000)
    watch.phase("choice", 1)
    for done in range(100):
        watch.part("trial 0", done, 100)
    watch.step("trial 0", score=1.0)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == {"asked": "trial 0", "answered": 0, "questions": 100}
    assert len(rows) == 3


def assert_told(lines: list[str]) -> None:
    """Every phase says which row is asked, how far and how long still; none promises that nothing is left."""
    told = "\n".join(lines)
    for part in (r"search.*trial 1", r"choice.*trial \d", r"controls.*sweep 0\.5", r"held out.*source ja"):
        assert re.search(part, told), part
    for part in ("control average", "winner"):
        assert re.search(rf"held out.*{part}", told), part
    assert re.search(r"held out.*\d/\d.* \d+/40", told), "rows and questions"
    assert re.search(r"held out.*left", told)
    assert not re.search(r"\b0 s left", told)
    for name in ("search", "choice", "controls", "held out", "checkpoint"):
        assert re.search(rf"{name}.*took (under )?\d+ (s|min)", told), name
    for line in lines:
        clocks = re.findall(r"\bleft|so far|took", line)
        assert len(clocks) <= 1, line


REDIRECTING = """
import time
from evovlm.cli.progress import shown
from evovlm.models.panics import without_reports
with shown() as watch:
    watch.phase("choice", 1)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        with without_reports():
            time.sleep(0.01)
    watch.step("trial 0")
"""


def test_bars_are_drawn_over_themselves_while_standard_error_is_redirected(tmp_path: Path):
    seen = python_in_terminal("-c", REDIRECTING, folder=tmp_path, columns=80)
    assert seen.returncode == 0
    drawn = [line for line in seen.lines if "choice" in line]
    assert len(drawn) > 5
    assert [line for line in drawn if line.count("choice") > 1] == []


# Every row is drawn: ten drawings a second may miss one that is answered in less than a tenth.
DRAWN_OFTEN = """
import functools, sys
from evovlm.cli import _screens
_screens.Progress = functools.partial(_screens.Progress, refresh_per_second=100)
from evovlm.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_which_row_is_asked_and_how_long_still(tmp_path: Path, columns: int):
    words = ("evolve", "zoo-vlm", "--out", "study", *SMALL)
    seen = python_in_terminal("-P", "-c", DRAWN_OFTEN, *words, folder=tmp_path, columns=columns)
    assert seen.returncode == 0, seen.text[-2000:]
    assert_told([line for line in seen.lines if "━" in line])
    assert cell_len(seen.widest()) <= columns, seen.widest()


@pytest.mark.slow
def test_without_a_terminal_lines_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setattr(_screens, "CALM", float("inf"))  # a line for each change
    done = evovlm_here("evolve", "zoo-vlm", "--out", "study", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_told(done.stderr.splitlines())
