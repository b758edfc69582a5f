"""A search by a method that prepares task vectors, and the control that does: when they are made, kept and removed."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from evovlm.merging.assembly import assemble
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.result import Cell
from tests.evolution.small_studies import Noting, evolve


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
