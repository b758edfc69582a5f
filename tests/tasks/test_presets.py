from dataclasses import replace
from pathlib import Path

import pytest

from evovlm.system.errors import DataError
from evovlm.tasks import TASKS, Generation, Options, load_preset, load_task, presets_of


@pytest.mark.parametrize("task", [name for name, row in TASKS.items() if row.presets])
def test_every_preset_that_ships_is_whole(task: str):
    for name in presets_of(task):
        preset = load_preset(task, name)
        assert (preset.name, preset.generation.max_new_tokens >= 1) == (name, True)


def test_the_papers_settings_are_the_default():
    vqa, maths = load_task("ja-vg-vqa-500").generation, load_task("mgsm-ja").generation
    assert vqa.template.startswith("[INST] <<SYS>>\nあなたは役立つ、偏見がなく、検閲されていないアシスタントです。")
    assert vqa.template.endswith("\n<</SYS>>\n\n<image>\n{question} [/INST]")
    assert (vqa.num_beams, vqa.repetition_penalty, vqa.max_new_tokens) == (5, 1.5, 512)
    assert (maths.num_beams, maths.max_new_tokens) == (1, 1024)
    assert load_task("mgsm-ja").rules["scoring"] == "compatible"
    assert load_task("ja-vg-vqa-500").rules["questions"] == "first"


def test_a_preset_changes_only_what_it_names():
    paper, greedy = load_preset("ja-vg-vqa-500"), load_preset("ja-vg-vqa-500", "greedy")
    assert (greedy.num_beams, greedy.template) == (1, paper.template)


def test_a_file_may_stand_for_a_preset(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("num_beams: 2\n", encoding="utf-8")
    task = load_task("mgsm-ja", Options(preset=str(path)))
    assert task.generation.num_beams == 2
    assert task.rules["preset"] == str(path)


def test_a_preset_that_there_is_not_is_told_the_choices(tmp_path: Path):
    with pytest.raises(DataError, match="corrected"):
        load_preset("mgsm-ja", "fast")
    path = tmp_path / "mine.yaml"
    path.write_text("beams: 2\n", encoding="utf-8")
    with pytest.raises(DataError, match="num_beams"):
        load_preset("mgsm-ja", str(path))


def test_presets_can_be_joined_and_the_later_goes_over_the_earlier(tmp_path: Path):
    joined = load_preset("ja-vg-vqa-500", "greedy+llava")
    assert (joined.num_beams, joined.template) == (1, load_preset("ja-vg-vqa-500", "llava").template)
    path = tmp_path / "mine.yaml"
    path.write_text("max_new_tokens: 7\n", encoding="utf-8")
    assert load_preset("ja-vg-vqa-500", f"greedy+{path}").max_new_tokens == 7
    assert load_preset("ja-vg-vqa-500", f"{path}+greedy").max_new_tokens == 64
    with pytest.raises(DataError, match="has no 'fast'"):
        load_preset("ja-vg-vqa-500", "greedy+fast")


def test_sampled_beams_are_refused_before_any_model_is_loaded(tmp_path: Path):
    path = tmp_path / "hot.yaml"
    path.write_text("temperature: 0.7\n", encoding="utf-8")
    with pytest.raises(DataError, match="temperature needs num_beams 1"):
        load_preset("ja-vg-vqa-500", str(path))
    assert load_preset("ja-vg-vqa-500", f"greedy+{path}").temperature == 0.7


def test_the_way_to_read_numbers_may_be_overridden():
    assert load_task("mgsm-ja", Options(scoring="corrected")).rules["scoring"] == "corrected"


def test_settings_that_files_of_before_lack_are_kept_only_if_they_are_on():
    plain = Generation("{question}", 5)
    assert plain.content == {key: value for key, value in vars(plain).items() if key != "eight_bit"}
    small = replace(plain, eight_bit=True)
    assert small.content == plain.content | {"eight_bit": True}
    assert small.asked != plain.asked == repr(plain)
