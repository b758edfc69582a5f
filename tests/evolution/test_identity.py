"""Studies of the smallest models, through whole searches: what another model, question or place makes of a study."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from evovlm.cli.console import OUT
from evovlm.cli.evolve import _print_result
from evovlm.engines.hf import Engine
from evovlm.evolution.plan import EvolveSettings
from evovlm.evolution.stages import evolve_stages
from evovlm.recipe.schema import Recipe, Source
from evovlm.recipe.yaml_file import read_recipe
from evovlm.report import write_report
from evovlm.report.data import read_study
from evovlm.study import log as study_log
from evovlm.study.result import Result
from evovlm.system import files
from evovlm.system.errors import StudyError

MADE = Path(__file__).parent.parent / "fixtures" / "studies"
SMALL = EvolveSettings(trials=3, items=6, judged=8)


@dataclass
class Noting:
    """A watch that keeps what the user is told, and can stop the search in a phase."""

    stop: str = ""
    notes: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def phase(self, name: str, total: int) -> None:
        self.phases.append(name)
        if name == self.stop:
            raise KeyboardInterrupt

    def step(self, text: str, **figures: float | None) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Models, data and recipes, without the studies."""
    return Path(shutil.copytree(MADE, tmp_path / "made", ignore=shutil.ignore_patterns("studies")))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each call of the engine made."""
    counts: list[int] = []
    answer = Engine.answer

    def counting(engine: Engine, prepared: Any, *more: Any) -> list[str]:
        counts.append(len(prepared.prompts))
        return answer(engine, prepared, *more)

    monkeypatch.setattr(Engine, "answer", counting)
    return counts


def evolve(
    place: Path, out: str, recipe: str | Recipe = "one-stage.yaml", watch: Noting | None = None, **changes: Any
) -> Result:
    found = recipe if isinstance(recipe, Recipe) else read_recipe(place / recipe)
    return evolve_stages(found, place, replace(SMALL, **changes), place / out, watch or Noting())


def change_a_weight(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def test_other_weights_are_refused_before_a_model_is_loaded(place: Path, asked: list[int]):
    evolve(place, "s")
    before = len(asked)
    change_a_weight(place / "models/math")
    for trials in (3, 5):
        with pytest.raises(
            StudyError, match=r"another `weights\.sources\.math` \(.*; now .*\): the model's files have"
        ):
            evolve(place, "s", trials=trials)
    assert len(asked) == before
    assert len(study_log.read_trials(place / "s")) == 3


@pytest.mark.parametrize(("split", "line"), [("search", 0), ("validation", -1), ("test", -1)])
def test_another_question_under_the_same_id_is_another_study(place: Path, split: str, line: int):
    evolve(place, "s")
    path = place / "data/sums.jsonl"
    rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["split"] == split:
            row["question"] += " "
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(StudyError, match=rf"another `sets\.{split}\.content` .*: its questions, images or references"):
        evolve(place, "s")


def test_another_image_under_the_same_name_is_another_study(place: Path):
    evolve(place, "s", "atlas.yaml")
    shown = place / "data/pictures"
    one, other, *_ = sorted(shown.glob("*.png"))
    shutil.copy(other, one)
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(StudyError, match=r"another `sets\.(search|validation|test)\.content`"):
        evolve(place, "s", "atlas.yaml", judged=None, items=None)


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
    assert best.digest() != "" and all((best.root / source.model).is_dir() for source in best.sources)


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
    assert watch.notes == []


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
    study_log.CACHE: ["not a data base " * 300],
    study_log.BEST: ["sources: [", ""],
}


def test_a_damaged_file_is_made_again_and_the_study_goes_on(place: Path, asked: list[int]):
    settings: dict[str, Any] = {"keep_diverse": True, "recipe": "one-stage.yaml"}
    whole = evolve(place, "whole", **settings)
    for name, contents in DAMAGES.items():
        for content in contents:
            out = Path(shutil.copytree(place / "whole", place / "s"))
            (out / name).write_text(content, encoding="utf-8")
            watch = Noting()
            found = evolve(place, "s", watch=watch, **settings)
            assert (found.held_out, found.selection) == (whole.held_out, whole.selection), (name, content)
            if name in (study_log.RESULT, study_log.CACHE) and name != study_log.CACHE:
                assert any(name in note for note in watch.notes), (name, content)
            data = read_study(out)
            assert [note for note in data.notes if study_log.EVENTS not in note] == [], (name, content)
            assert data.atlas is not None
            assert data.winner is not None
            shutil.rmtree(out)


def test_a_damaged_cache_is_set_aside_and_its_answers_are_made_again(place: Path):
    evolve(place, "s")
    (place / "s" / study_log.CACHE).write_bytes(b"not a data base " * 300)
    watch = Noting()
    evolve(place, "s", watch=watch, trials=5)
    assert any("renamed to answers.sqlite.damaged" in note for note in watch.notes)
    assert len(study_log.read_trials(place / "s")) == 5


@pytest.mark.parametrize("name", ["evolved", "average", "sweep", "base", "shuffled_images"])
def test_a_source_called_as_a_row_keeps_its_own_row_and_score(place: Path, name: str):
    recipe = read_recipe(place / "one-stage.yaml")
    plain = evolve(place, "plain", recipe)
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
    assert own == [row.answer for row in read_study(place / "plain").held_out_answers if row.row == ("sources", "ja")]
    assert len(own) == 8
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
        result = evolve(place, "s", unanswerable(place), checkpoint=True)
        _print_result(place / "s", result, write_report(place / "s"))
    assert result.selection is not None
    assert result.selection.tied == 3
    assert files.read_json(place / "s" / study_log.RESULT)["selection"]["tied"] == 3
    sentence = "found no best candidate: all 3 scored 0.00"
    shown = " ".join(capture.get().split())
    assert sentence in shown
    assert "Winner:" not in shown
    assert result.checkpoint is not None
    card = (Path(result.checkpoint) / "README.md").read_text(encoding="utf-8")
    assert sentence in card
    assert "selection bias" not in card
    assert sentence in (place / "s/report.html").read_text(encoding="utf-8")


def test_a_search_with_a_best_does_not_speak_of_a_tie(place: Path):
    result = evolve(place, "s", trials=12)
    assert len({trial.score for trial in study_log.read_trials(place / "s")}) > 1
    assert "tied" not in files.read_json(place / "s" / study_log.RESULT)["selection"]
    assert result.selection is not None


def silenced(model: Path) -> None:
    """A model without a word: its last norm is zero, so every logit is, and the first token is padding."""
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"].zero_()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def test_a_source_and_its_control_without_a_word_are_rows_of_zero_and_say_so(place: Path):
    """Such a control once ended the study at every resume."""
    silenced(place / "models/math")
    recipe = read_recipe(place / "one-stage.yaml")
    sources = (recipe.sources[0], Source(name="math", model="models/math"))
    found = evolve(place, "s", recipe.model_copy(update={"sources": sources}))
    cell = found.held_out.sources["math"]
    assert (cell.score, cell.note) == (0.0, "every answer is empty")
    assert found.held_out.sources["ja"].note is None
    assert "(every answer is empty)" in write_report(place / "s").read_text(encoding="utf-8")
