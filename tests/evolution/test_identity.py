"""Studies of the smallest models, through whole searches: what another model, question or place makes of a study."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from evovlm.cli.console import OUT
from evovlm.cli.evolve import _print_result
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.evolution.stages import evolve_stages
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.report import write_report
from evovlm.report.data import read_study
from evovlm.study import log as study_log
from evovlm.study.header import Gain, refuse_changes
from evovlm.study.result import Cell, read_result
from evovlm.system import files
from evovlm.system.errors import StudyError
from tests.evolution.small_studies import MADE, SMALL, Noting, evolve


def change_a_weight(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("then", [True, False])
def test_a_study_is_bound_to_the_self_check(place: Path, asked: list[int], then: bool):
    evolve(place, "c", self_check=then)
    made, was, is_now = len(asked), json.dumps(then), json.dumps(not then)
    with pytest.raises(StudyError, match=rf"another `self_check` \({was}; now {is_now}\): without the check, models"):
        evolve(place, "c", self_check=not then, trials=5)
    assert len(asked) == made
    assert len(study_log.read_trials(place / "c")) == 3


def test_a_study_is_bound_to_the_dtype_that_a_device_computes_in(place: Path):
    recipe = read_recipe(place / "one-stage.yaml")
    on_gpu = plan_evolution(recipe, place, replace(SMALL, device="cuda:1")).header()
    with pytest.raises(StudyError, match=r'another `dtype` \("float32"; now "bfloat16"\): on another --device'):
        refuse_changes(place / "s", on_gpu)
    same = recipe.model_copy(update={"dtype": "float32"})
    evolve(place, "f", same)
    plan = plan_evolution(same, place, replace(SMALL, device="cuda:1"))
    assert refuse_changes(place / "f", plan.header()) == Gain({})


def test_other_weights_are_refused_before_a_model_is_loaded(place: Path, asked: list[int]):
    change_a_weight(place / "models/math")
    for trials in (3, 5):
        with pytest.raises(StudyError, match=r"another `weights\.sources\.math` \(.*; now .*\): the model's files"):
            evolve(place, "s", trials=trials)
    assert asked == []
    assert len(study_log.read_trials(place / "s")) == 3


@pytest.mark.parametrize("split", ["search", "validation", "test"])
def test_another_question_under_the_same_id_is_another_study(place: Path, split: str):
    path = place / "data/sums.jsonl"
    rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["split"] == split:
            row["question"] += " "
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(StudyError, match=rf"another `sets\.{split}\.content` .*: its questions, images or references"):
        evolve(place, "s")


@pytest.mark.slow
def test_other_images_under_the_same_names_are_another_study(place: Path):
    evolve(place, "seen", "atlas.yaml")
    shown = sorted((place / "data/pictures").glob("*.png"))
    content = [path.read_bytes() for path in shown]
    for path, other in zip(shown, [*content[1:], content[0]], strict=True):
        path.write_bytes(other)
    with pytest.raises(StudyError, match=r"another `sets\.search\.content`"):
        evolve(place, "seen", "atlas.yaml")


def test_a_study_of_two_stages_may_be_moved_when_it_is_finished(place: Path, asked: list[int]):
    whole = evolve(place, "here", "two-stage.yaml")
    kept = (place / "here" / study_log.TRIALS).read_bytes()
    made = len(asked)
    (place / "there").mkdir()
    (place / "here").rename(place / "there/s")
    watch = Noting()
    assert evolve(place, "there/s", "two-stage.yaml", watch) == whole
    assert len(asked) == made
    assert watch.notes == []
    assert (place / "there/s" / study_log.TRIALS).read_bytes() == kept
    best = read_recipe(place / "there/s" / study_log.BEST)
    assert (best.root / best.sources[0].model).is_dir(), "it names the model in its new place"
    assert all((best.root / source.model).is_dir() for source in best.sources)


@pytest.mark.slow
def test_a_study_of_two_stages_that_is_moved_midway_ends_as_one_that_was_not(place: Path, asked: list[int]):
    whole = evolve(place, "whole", "two-stage.yaml")
    evolve(place, "here", "two-stage.yaml", trials=2)
    (place / "here").rename(place / "there")
    watch = Noting()
    found = evolve(place, "there", "two-stage.yaml", watch)
    own = ("trial", "genome", "digest", "score")
    trials = [
        [tuple(getattr(trial, key) for key in own) for trial in study_log.read_trials(place / name)]
        for name in ("there", "whole")
    ]
    assert trials[0] == trials[1], "the digests too: they hold no place"
    assert found.held_out == whole.held_out
    assert [note for note in watch.notes if "stage-1: stays at 2 trials" not in note] == []


def test_an_old_study_of_two_stages_may_be_moved(tmp_path: Path, asked: list[int]):
    """Its digests hold the path that its inner model had, and stay as they are."""
    place = Path(shutil.copytree(MADE, tmp_path / "made"))
    kept = (place / "studies/two-stage" / study_log.TRIALS).read_bytes()
    result = files.read_json(place / "studies/two-stage" / study_log.RESULT)
    (place / "studies/two-stage").rename(place / "moved")
    recipe = read_recipe(place / "two-stage.yaml")
    found = evolve_stages(recipe, place, EvolveSettings(), place / "moved", Noting())
    assert found.content() == result
    assert asked == []
    evolve_stages(recipe, place, EvolveSettings(trials=16), place / "moved", Noting())
    assert (place / "moved" / study_log.TRIALS).read_bytes().startswith(kept)


@pytest.mark.slow
def test_a_moved_study_keeps_its_checkpoint(place: Path):
    whole = evolve(place, "here", checkpoint=True)
    assert whole.checkpoint is not None
    (place / "deep/er").mkdir(parents=True)
    (place / "here").rename(place / "deep/er/s")
    watch = Noting()
    found = evolve(place, "deep/er/s", watch=watch, checkpoint=True)
    assert found.checkpoint == str((place / "deep/er/s/checkpoint").resolve())
    assert "checkpoint" not in watch.phases, "it is not built again"
    assert sorted(path.name for path in (place / "deep/er/s").glob("checkpoint*")) == ["checkpoint"]
    again = evolve(place, "deep/er/s", watch=watch, checkpoint=True, trials=3, rivals=True)
    assert "checkpoint" not in watch.phases
    assert again.checkpoint == found.checkpoint


DAMAGES = {
    study_log.RESULT: ["", "{}", "null", '{"trials": 3}'],
    study_log.ATLAS: ["", "{}"],
    study_log.EVENTS: ["[1]\n", '{"time": "2026'],
    study_log.HELD_OUT_ANSWERS: ['{"model": "ja", "key": "ja model=ja", "id": "x"}\n', "[]\n"],
    study_log.BEST: ["sources: [", ""],
}


@pytest.mark.slow
def test_a_damaged_file_is_made_again_and_the_study_goes_on(place: Path, asked: list[int]):
    settings: dict[str, Any] = {"keep_diverse": True, "recipe": "one-stage.yaml"}
    whole = evolve(place, "whole", **settings)
    for name, contents in DAMAGES.items():
        for content in contents:
            out = Path(shutil.copytree(place / "whole", place / "d"))
            (out / name).write_text(content, encoding="utf-8")
            watch = Noting()
            found = evolve(place, "d", watch=watch, **settings)
            assert (found.held_out, found.selection) == (whole.held_out, whole.selection), (name, content)
            assert any(name in note for note in watch.notes) or name != study_log.RESULT, content
            data = read_study(out)
            kept = (study_log.EVENTS, study_log.HELD_OUT_ANSWERS)  # logs: nothing is taken out of them
            assert [note for note in data.notes if not any(log in note for log in kept)] == [], (name, content)
            assert data.atlas is not None
            assert data.winner is not None
            shutil.rmtree(out)


def test_a_damaged_cache_is_set_aside_and_its_answers_are_made_again(place: Path):
    for path in (place / "s").glob(f"{study_log.CACHE}*"):
        path.unlink()
    (place / "s" / study_log.CACHE).write_bytes(b"not a data base " * 300)
    watch = Noting()
    evolve(place, "s", watch=watch, trials=5)
    assert any("renamed to answers.sqlite.damaged" in note for note in watch.notes)
    assert len(study_log.read_trials(place / "s")) == 5


@pytest.mark.parametrize(
    "name", ["evolved", *(pytest.param(name, marks=pytest.mark.slow) for name in ("average", "base", "random_search"))]
)
def test_a_source_called_as_a_row_keeps_its_own_row_and_score(place: Path, name: str):
    recipe, plain = read_recipe(place / "one-stage.yaml"), read_result(place / "s")
    assert plain is not None
    first = recipe.sources[0].model_copy(update={"name": name})
    parameters = {name: recipe.of("ja"), "math": recipe.of("math")}
    renamed = recipe.model_copy(
        update={"sources": (first, recipe.sources[1]), "owner": name, "parameters": parameters, "base": recipe.base}
    )
    found = evolve(place, "renamed", renamed)
    expected = plain.held_out.sources["ja"]
    assert (found.held_out.sources[name].score, found.held_out.sources[name].exact) == (expected.score, expected.exact)
    assert len(found.held_out.sources) == 3
    assert {cell.score for cell in found.held_out.sources.values()} == {
        cell.score for cell in plain.held_out.sources.values()
    }
    study = read_study(place / "renamed")
    own = [row.answer for row in study.held_out_answers if row.row == ("sources", name)]
    assert own == [row.answer for row in read_study(place / "s").held_out_answers if row.row == ("sources", "ja")]
    assert len(own) == 8
    means = {
        row: sum(scores) / len(scores)
        for row in (("sources", name), ("evolved", "evolved"))
        if (scores := [answer.score for answer in study.held_out_answers if answer.row == row])
    }
    assert found.held_out.evolved.score == pytest.approx(means["evolved", "evolved"])
    versus = found.held_out.sources[name].versus_evolved
    assert versus is not None
    assert versus.mean == pytest.approx(means["evolved", "evolved"] - means["sources", name])
    assert versus.ci95 != (0, 0), "a row that is taken for the other differs nowhere"
    page = write_report(place / "renamed").read_text(encoding="utf-8")
    assert f"<th scope=row>source {name}</th>" in page


def unanswerable(place: Path) -> Recipe:
    """A search that no candidate can score in: every reference is out of reach."""
    path = place / "data/sums.jsonl"
    rows = [json.loads(row) | {"reference": "123456"} for row in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_recipe(place / "one-stage.yaml")


def test_a_search_in_which_all_tie_claims_no_best(place: Path):
    with OUT.capture() as capture:
        result = evolve(place, "t", unanswerable(place), checkpoint=True)
        _print_result(place / "t", result, write_report(place / "t"))
    assert result.selection is not None
    assert result.selection.tied == 3
    assert files.read_json(place / "t" / study_log.RESULT)["selection"]["tied"] == 3
    sentence = "found no best candidate: all 3 scored 0.00"
    shown = " ".join(capture.get().split())
    assert sentence in shown
    assert "Winner:" not in shown
    assert result.checkpoint is not None
    card = (Path(result.checkpoint) / "README.md").read_text(encoding="utf-8")
    assert sentence in card
    assert "selection bias" not in card
    assert sentence in (place / "t/report.html").read_text(encoding="utf-8")


def test_a_search_with_a_best_does_not_speak_of_a_tie(place: Path):
    result = evolve(place, "s", trials=12)
    assert len({trial.score for trial in study_log.read_trials(place / "s")}) > 1
    assert "tied" not in files.read_json(place / "s" / study_log.RESULT)["selection"]
    assert result.selection is not None
    assert result.selection.tied is None


def opposed(one: Path, other: Path) -> None:
    """Give one model the last norm of another with its sign turned.

    Their average then has a norm of zero, so every logit is zero, and it says nothing but the first token: padding.
    """
    tensors = load_file(one / "model.safetensors")
    tensors["model.norm.weight"] = -load_file(other / "model.safetensors")["model.norm.weight"]
    save_file(tensors, one / "model.safetensors", {"format": "pt"})


def test_a_control_without_a_word_is_a_row_of_zero_and_says_so(place: Path):
    """It once ended the study, at every resume."""
    opposed(place / "models/math", place / "models/ja")
    found = evolve(place, "silent")
    cell = found.held_out.controls["average"]
    assert isinstance(cell, Cell)
    assert (cell.score, cell.note) == (0.0, "every answer is empty")
    assert found.held_out.evolved.note is None
    rows = [row.answer for row in read_study(place / "silent").held_out_answers if row.row == ("controls", "average")]
    assert rows == [""] * 8
    assert "(every answer is empty)" in write_report(place / "silent").read_text(encoding="utf-8")
