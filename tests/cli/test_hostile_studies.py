"""Whatever a file of a study has become: made again, left out, or a sentence that names it. No traceback, at once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.study import log as study_log
from tests.cli.hostile import EXAMPLES, SNIPPETS, VALUES, assert_answered, bounded, places
from tests.command import evovlm_here

MADE = Path(__file__).parent.parent / "fixtures" / "studies"
EVOLVE = ["evolve", "one-stage.yaml", "--out", "study", "--items", "4", "--judged", "4", "--no-self-check"]
READ = (
    *(study_log.HEADER, study_log.TRIALS, study_log.EVENTS, study_log.RESULT, study_log.ATLAS),
    *(study_log.HELD_OUT_ANSWERS, study_log.ANSWERS, study_log.BEST, "images"),
)
RESUMED = (
    *(study_log.HEADER, study_log.TRIALS, study_log.EVENTS, study_log.RESULT, study_log.HELD_OUT_ANSWERS),
    *(study_log.ANSWERS, study_log.BEST, study_log.ASKS, study_log.CACHE, "images"),
)
PLACE: list[Path] = []  # once it is made

pytestmark = pytest.mark.examples


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, data and recipes; `study`, searched by several workers at last, and `shown`, which has an atlas."""
    place = tmp_path_factory.mktemp("hostile") / "made"
    shutil.copytree(MADE, place, ignore=shutil.ignore_patterns("studies"))
    for trials in ("2", "3"):
        done = evovlm_here(*EVOLVE, "--trials", trials, folder=place)
        assert done.returncode == 0, done.stderr
        (place / "study" / study_log.ASKS).touch()
    shutil.copytree(MADE / "studies" / "atlas", place / "shown")
    assert evovlm_here("report", "shown", folder=place).returncode == 0
    for name in ("study", "shown"):
        shutil.copytree(place / name, place / "whole" / name)
    PLACE.append(place)
    return place


def restore(made: Path, name: str) -> Path:
    """The study as it was."""
    folder = made / name
    shutil.rmtree(folder)
    shutil.copytree(made / "whole" / name, folder)
    return folder


def whole_of(study: str, name: str) -> str:
    """The sound text of a file; that of an empty mapping where the study has none."""
    path = PLACE[0] / "whole" / study / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "{}\n"


NUMBERS = ["NaN", "Infinity", "-Infinity", "1e308", "-1e308", "1e999", "9" * 300, "9" * 5000, "-1", "0", "true", "null"]
OTHERS = [
    *("", "\n", "null", "[]", "{}", "3", '"x"', "[" * 100_000, '{"a":' * 100_000, '{"a":' * 200 + "1" + "}" * 200),
    *('{"\\ud800": "\\ud800"}', "\x00" * 50, '{"format": 99}', *NUMBERS),
]


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def as_link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def as_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.parent.mkdir(exist_ok=True), path.write_bytes(content))[0]


KINDS = st.sampled_from([as_pipe, as_folder, as_link("nowhere"), as_link("/dev/zero"), lambda path: None])


@st.composite
def torn(draw: st.DrawFn, whole: str) -> bytes:
    """A sound text in which some places are cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(whole)))
        stop = min(len(whole), start + draw(st.integers(0, 30)))
        middle = draw(SNIPPETS | st.text(max_size=6) | st.sampled_from([*NUMBERS, whole[start:stop] * 2]))
        whole = whole[:start] + middle + whole[stop:]
    return whole.encode("utf-8", "surrogatepass")


@st.composite
def changed(draw: st.DrawFn, whole: str) -> bytes:
    """Sound JSON, or lines of it, in which some values are others, of any type, or keys are added or taken out."""
    lines = whole.splitlines() if "\n{" in whole else [whole]
    place = draw(st.integers(0, len(lines) - 1))
    try:
        content = json.loads(lines[place])
    except ValueError:  # the recipe, a YAML file
        return draw(torn(whole))
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(content, dict) or not (found := places(content)):
            break
        *above, last = draw(st.sampled_from(found))
        here = content
        for key in above:
            here = here[key]
        if isinstance(here, dict) and draw(st.integers(0, 5)) == 0:
            del here[last]
            last = draw(st.text(max_size=8))
        number = st.sampled_from([float("nan"), float("inf"), 1e308, -1e308, 10**300, -(10**300), -1, 2**63])
        here[last] = draw(VALUES | number)
    lines[place] = json.dumps(content, default=str)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


@st.composite
def damages(draw: st.DrawFn, names: tuple[str, ...], study: str) -> list[tuple[str, Callable[[Path], None]]]:
    """One or two files of a study, and what takes the place of each."""
    found = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        whole = whole_of(study, name)
        content = changed(whole) | changed(whole) | torn(whole) | st.binary(max_size=60)
        content |= st.sampled_from(OTHERS).map(lambda text: text.encode("utf-8", "surrogatepass"))
        found.append((name, draw(KINDS | content.map(as_bytes) | content.map(as_bytes) | content.map(as_bytes))))
    return found


def put(folder: Path, damage: list[tuple[str, Callable[[Path], None]]]) -> None:
    for name, become in damage:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        become(path)


@given(damage=damages(READ, "shown"))
@bounded(EXAMPLES * 3 // 5)
def test_any_study_is_reported_or_refused(damage: list[Any], made: Path):
    put(restore(made, "shown"), damage)
    assert_answered("report", "shown", folder=made)


@given(damage=damages(RESUMED, "study"), trials=st.sampled_from(["3", "4"]))
@bounded(EXAMPLES // 5)
def test_any_study_goes_on_or_is_refused(damage: list[Any], trials: str, made: Path):
    put(restore(made, "study"), damage)
    assert_answered(*EVOLVE, "--trials", trials, folder=made)


@given(damage=damages(READ, "shown"))
@bounded(EXAMPLES // 5)
def test_any_study_is_shown_in_the_app(damage: list[Any], made: Path, caplog: pytest.LogCaptureFixture):
    pytest.importorskip("gradio")
    from evovlm_app.catalogue import Offering
    from evovlm_app.error_messages import Told
    from evovlm_app.evolution import _look
    from evovlm_app.searches import Searches

    put(restore(made, "shown"), damage)
    studies = made
    context = SimpleNamespace(offering=Offering((), (), studies), searches=Searches(studies))
    caplog.clear()
    try:
        _look(context, "shown", None, "en")  # type: ignore[arg-type]
    except Told:
        pass
    finally:
        context.searches.close()
    assert "unexpected" not in caplog.text, caplog.text
