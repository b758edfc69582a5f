"""Searches that the app starts, from the folder where the operator happens to be."""

import shutil
import time
from pathlib import Path

import huggingface_hub
import pytest

from evovlm.study.result import Result, read_result
from evovlm_app.catalogue import offer
from evovlm_app.limits import Refusal
from evovlm_app.searches import Searches
from evovlm_app.words import say
from tests.command import evovlm_here
from tests.hub_cache import cache_repository

MADE = Path(__file__).parent.parent / "fixtures" / "studies"


@pytest.mark.slow
def test_a_search_runs_where_files_have_the_names_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("random.py", "numpy.py", "evovlm.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong file was run')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    studies = tmp_path / "studies"
    searches = Searches(studies, nice=0)
    try:
        searches.start("mine", offer([], studies).mixable("zoo-vlm"), trials=2, items=4, seed=0)
        while searches.running is not None:
            time.sleep(0.1)
        assert (studies / "mine" / "result.json").is_file(), searches.failure("mine")
    finally:
        searches.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: models in a hub cache, and a recipe with relative data in a folder of its own."""
    cache, work = tmp_path / "home/hub", tmp_path / "work"
    for name in ("base", "ja", "math"):
        cache_repository(cache, f"org/{name}", MADE / "models" / name)
    for key, value in (("HF_HUB_CACHE", str(cache)), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(MADE / "data", work / "mine/data")
    text = (MADE / "one-stage.yaml").read_text(encoding="utf-8").replace("models/", "org/")
    (work / "mine/sums.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(work)
    return work


def ended(searches: Searches, name: str) -> Result:
    """The result of a search, when its process has ended."""
    while searches.running is not None:
        time.sleep(0.1)
    time.sleep(0.2)  # the thread that watches it notes a failure
    assert searches.failure(name) is None
    found = read_result(Path("studies") / name)
    assert found is not None
    return found


@pytest.mark.slow
def test_models_of_the_hub_are_searched_on_relative_data_and_offered_as_evolved(place: Path):
    studies = Path("studies")
    offering = offer(["mine/sums.yaml"], studies)
    mixable = offering.mixable("sums")
    assert offering.evolved(mixable) is None
    first = Searches(studies, nice=0)
    try:
        first.start("mine", mixable, trials=2, items=6, seed=0)
        result = ended(first, "mine")
    finally:
        first.close()
    assert result.held_out.evolved.items == 6
    winner = offering.evolved(mixable)
    assert winner is not None
    assert len(str(winner.sources[0].revision)) == 40, "its models are pinned, and still the same"
    assert "evolved" in offering.models("llm")
    # Another server has another temporary folder.
    second = Searches(studies, nice=0)
    try:
        second.go_on("mine", studies / "mine", 3)
        again = ended(second, "mine")
    finally:
        second.close()
    assert (again.trials, again.held_out.evolved.items) == (3, 6)


@pytest.mark.slow
def test_a_study_of_the_command_line_goes_on_with_its_own_settings(place: Path):
    words = ["evolve", "zoo-llm", "--out", "studies/mine", "--trials", "2", "--items", "4"]
    done = evovlm_here(*words, "--judged", "9", "--no-self-check", folder=place)
    assert done.returncode == 0, done.stderr
    header = (place / "studies/mine/study.json").read_bytes()
    searches = Searches(Path("studies"), nice=0)
    try:
        searches.go_on("mine", Path("studies/mine"), 3)
        found = ended(searches, "mine")
    finally:
        searches.close()
    assert (found.trials, found.held_out.evolved.items) == (3, 9)
    assert (place / "studies/mine/study.json").read_bytes() == header


@pytest.mark.slow
def test_a_study_of_the_command_line_goes_on_with_relative_paths_or_says_where_they_start(place: Path):
    shutil.copytree(MADE / "models", place / "mine/models")
    shutil.copyfile(MADE / "one-stage.yaml", place / "mine/sums.yaml")
    words = ["evolve", "mine/sums.yaml", "--out", "studies/mine", "--trials", "2", "--items", "4", "--judged", "6"]
    done = evovlm_here(*words, folder=place)
    assert done.returncode == 0, done.stderr
    header = (place / "studies/mine/study.json").read_bytes()
    searches = Searches(Path("studies"), nice=0)
    try:
        searches.go_on("mine", Path("studies/mine"), 3)
        assert ended(searches, "mine").trials == 3
        assert (place / "studies/mine/study.json").read_bytes() == header
        (place / "mine/data").rename(place / "mine/away")
        with pytest.raises(Refusal) as refused:
            searches.go_on("mine", Path("studies/mine"), 4)
        text = say(refused.value.key, "en", **refused.value.facts)
        assert "is not there: the paths of this search start from mine." in text
    finally:
        searches.close()
