"""A search by a method that prepares task vectors, and the control that does: when they are made, kept and removed."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evovlm.cli._dry_run import dry_run
from evovlm.evolution.forecast import scope_of
from evovlm.evolution.plan import plan_evolution
from evovlm.evolution.preparing import lacking_disk, preparing_seconds
from evovlm.merging.assembly import assemble
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.result import Cell, FailedRow
from evovlm.system.errors import StudyError
from tests.evolution.small_studies import SMALL, Noting, evolve


def test_a_search_prepares_once_and_its_checkpoint_is_what_the_recipe_alone_gives(place: Path):
    recipe = read_recipe(place / "one-stage.yaml").by("tsv_m")
    watch, out = Noting(), place / "studies" / "new"
    result = evolve(place, "studies/new", recipe, watch, checkpoint=True)
    assert watch.phases == ["task vectors", "search", "choice", "controls", "held out", "checkpoint"]
    files = {path.name for path in (out / study_log.VECTORS).iterdir()}
    assembly = assemble(read_recipe(out / study_log.BEST), out)
    assert files == {f"tsv_m.{job.name}.safetensors" for job in assembly.jobs}
    assert result.checkpoint is not None
    written = load_file(Path(result.checkpoint) / "model.safetensors")
    assert all(torch.equal(written[job.key], assembly.merge(job)) for job in assembly.jobs)
    damaged = out / study_log.VECTORS / "tsv_m.model.layers.0.mlp.up_proj.weight.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    again = Noting()
    evolve(place, "studies/new", recipe, again, trials=4)
    assert [note.startswith(f"{damaged}: damaged (") for note in again.notes if "damaged" in note] == [True]


def test_every_table_has_tsv_whose_vectors_are_removed_in_the_end(place: Path):
    watch, out = Noting(), place / "studies" / "new"
    row = evolve(place, "studies/new", watch=watch).held_out.controls["tsv"]
    assert watch.phases == ["search", "choice", "task vectors", "controls", "held out"]
    assert isinstance(row, Cell)
    assert (row.tries, row.chosen_on, row.of) == (5, "validation", "one weight for all sources")
    assert row.weight in (0.4, 0.7, 1.0, 1.3, 1.6)
    assert not (out / study_log.VECTORS).exists()


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": free})())


def test_tsv_is_left_out_as_foretold_if_the_disk_is_too_small_and_added_later(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe, out = read_recipe(place / "one-stage.yaml"), place / "studies" / "new"
    plan = plan_evolution(recipe, place, SMALL)
    whole = scope_of(plan)
    with monkeypatch.context() as patch:
        free_bytes(patch, 1500)
        refused, no_room = lacking_disk(plan, out)
        assert refused == ""
        assert re.fullmatch(r"its task vectors need [\d.]+ [kM]B of disk, and 1.5 kB are free", no_room)
        scope = scope_of(plan, no_room=no_room)
        assert (scope.prepared, scope.bytes_vectors, scope.no_tsv) == ((), 0, no_room)
        assert (scope.choosing, scope.beside) == (whole.choosing - 5, whole.beside - 1)
        assert preparing_seconds(plan, no_room) == 0
        dry_run(recipe, out, SMALL, False, Noting())
        said = " ".join(capsys.readouterr().out.split())
        assert f"TSV-M as a control of the held-out table: none, since {no_room}" in said
        row = evolve(place, "studies/new", recipe).held_out.controls["tsv"]
    assert row == FailedRow(error=f"left out: {no_room}", again=True)
    again = evolve(place, "studies/new", recipe).held_out.controls["tsv"]
    assert isinstance(again, Cell)


@pytest.mark.parametrize("method", ["tsv_m", "iso_c"])
def test_a_disk_too_small_for_the_searchs_own_vectors_stops_it_as_foretold(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
):
    recipe, out = read_recipe(place / "one-stage.yaml").by(method), place / "studies" / "new"
    free_bytes(monkeypatch, 1500)
    dry_run(recipe, out, SMALL, False, Noting())
    said = " ".join(capsys.readouterr().out.split())
    with pytest.raises(StudyError, match=rf"the task vectors of {method} need [\d,]+ bytes, and 1,500 are") as raised:
        evolve(place, "studies/new", recipe)
    assert f"would stop before the search: {raised.value}".replace(" ", "") in said.replace(" ", "")
    assert not study_log.read_trials(out)


def test_the_controls_vectors_need_room_beside_the_searchs_own(place: Path, monkeypatch: pytest.MonkeyPatch):
    recipe, out = read_recipe(place / "one-stage.yaml"), place / "studies" / "new"
    whole = scope_of(plan_evolution(recipe, place, SMALL)).bytes_vectors

    def foretold(method: str, free: int, **options: float) -> tuple[str, str]:
        free_bytes(monkeypatch, free)
        return lacking_disk(plan_evolution(recipe.by(method).with_options(options), place, SMALL), out)

    assert foretold("tsv_m", whole) == ("", ""), "the control's are the same"
    assert foretold("tsv_m", 2 * whole - 1, rank_share=0.2)[1] != ""
    assert foretold("tsv_m", 2 * whole, rank_share=0.2) == ("", "")
    assert foretold("iso_c", whole)[0] == ""
    assert foretold("iso_c", whole)[1] != ""
    assert foretold("iso_c", 2 * whole) == ("", "")
