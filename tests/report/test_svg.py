import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from evovlm.report import write_svg
from evovlm.report.svg import HEIGHT, WIDTH, ticks
from tests.report.study_folder import make_study

SVG = "{http://www.w3.org/2000/svg}"


def test_every_scored_trial_is_a_dot_inside_the_picture(study: Path, tmp_path: Path):
    root = ET.parse(write_svg(study, tmp_path / "scores.svg")).getroot()
    dots = [dot for dot in root.findall(f"{SVG}circle") if dot.get("class") == "dot"]
    assert len(dots) == 39, "forty trials, one of them failed"
    for dot in dots:
        assert 0 <= float(dot.attrib["cx"]) <= WIDTH
        assert 0 <= float(dot.attrib["cy"]) <= HEIGHT


def test_the_best_line_only_rises(study: Path, tmp_path: Path):
    root = ET.parse(write_svg(study, tmp_path / "scores.svg")).getroot()
    (best,) = [line for line in root.findall(f"{SVG}polyline") if line.get("class") == "best"]
    heights = [float(point.split(",")[1]) for point in best.attrib["points"].split()]
    assert heights == sorted(heights, reverse=True), "y grows downwards in SVG"


def test_it_says_in_words_what_it_shows(study: Path, tmp_path: Path):
    root = ET.parse(write_svg(study, tmp_path / "scores.svg")).getroot()
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert "40 trials" in (described.text or "")


def test_a_study_without_a_trial_has_a_picture_too(tmp_path: Path):
    study = make_study(tmp_path / "new", trials=0, finished=False)
    assert "no trial has a score yet" in write_svg(study, tmp_path / "scores.svg").read_text()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 40, [0, 10, 20, 30, 40]), (34.6, 63.8, [30, 40, 50, 60, 70]), (0.0, 0.0, [0, 0.2])],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]):
    assert ticks(low, high) == expected
