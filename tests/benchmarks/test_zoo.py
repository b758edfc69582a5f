"""The zoo's skills, their picture, and the sample answers, on the models that ship."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evovlm.models.zoo_models import zoo_folder
from evovlm.tasks import load_task
from evovlm_benchmarks.zoo.bars import draw_bars
from evovlm_benchmarks.zoo.samples import table
from evovlm_benchmarks.zoo.skills import SKILLS, measure

ROOT = Path(__file__).parent.parent.parent
BY_NAME = {skill.name: skill for skill in SKILLS}


def test_the_maths_model_reckons_in_english_and_the_japanese_one_reads():
    skills = [BY_NAME[name] for name in ("word problems, English", "scenes in words, Japanese")]
    math, ja = (measure(zoo_folder(name), 24, skills=skills) for name in ("math", "ja"))
    assert math["word problems, English"] > ja["word problems, English"]
    assert ja["scenes in words, Japanese"] > math["scenes in words, Japanese"]


def test_a_right_number_in_the_wrong_language_is_no_skill():
    skill = BY_NAME["word problems, Japanese"]
    item = skill.draw(1)[0]
    assert skill.right(item, f"答えは{item.references[0]}個です")
    assert not skill.right(item, f"answer {item.references[0]}")


def test_bars_are_as_long_as_the_shares_and_told_in_words():
    drawn = ElementTree.fromstring(draw_bars({"vlm": {"seeing": 50.0}, "evolved": {"seeing": 100.0}}))
    widths = [float(bar.get("width", 0)) for bar in drawn.iter() if "bar" in bar.get("class", "").split()]
    assert widths[1] == 2 * widths[0]
    told = drawn.findtext("{http://www.w3.org/2000/svg}desc")
    assert told == "vlm: seeing 50 %; evolved: seeing 100 %"


def test_the_table_of_samples_marks_what_is_exactly_right():
    items = load_task("zoo-vqa").items("test", 2, 0)
    lines = table(items, {"ja": [items[0].references[0], "赤"]}).split("\n")
    assert lines[-1] == f"| `ja` | **{items[0].references[0]}** | 赤 |"


@pytest.mark.slow
def test_the_command_prints_answers_and_saves_their_pictures(tmp_path: Path):
    command = [
        sys.executable,
        "-P",
        "-m",
        "evovlm_benchmarks.zoo",
        "samples",
        "ja",
        "--items",
        "2",
        "--picture",
        tmp_path / "p.png",
    ]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 4
    assert (tmp_path / "p.png").stat().st_size > 500
