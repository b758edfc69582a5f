"""A finished study that is asked for something else: what was not asked for before is made, and nothing else."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.result import read_atlas
from evovlm.system import files
from evovlm.system.errors import StudyError
from tests.evolution.small_studies import Noting, evolve

Rows = list[dict[str, Any]]


def change_rows(place: Path, change: Callable[[Rows], Rows]) -> None:
    path = place / "data/sums.jsonl"
    rows = change([json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()])
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_another_number_of_items_makes_the_tables_of_a_finished_study_again(place: Path, asked: list[int]):
    before = study_log.read_trials(place / "s")
    watch = Noting()
    found = evolve(place, "s", watch=watch, judged=4)
    assert found.selection is not None
    assert (found.selection.items, found.held_out.evolved.items) == (4, 4)
    assert {cell.items for cell in found.held_out.scored_sources.values()} == {4}
    assert study_log.read_trials(place / "s") == before
    assert watch.notes == [
        f"{place / 's'}: 4 validation items, before 6; what depends on them is made again",
        f"{place / 's'}: 4 test items, before 8; what depends on them is made again",
    ]
    assert study_log.read_header(place / "s")["sets"]["test"]["asked"] == 4
    again, made = Noting(), len(asked)
    assert evolve(place, "s", watch=again, judged=4) == found
    assert (again.notes, len(asked)) == ([], made)


def test_the_card_of_a_checkpoint_shows_the_table_that_is_made_again(place: Path):
    first = evolve(place, "s", checkpoint=True)
    assert first.checkpoint is not None
    card = Path(first.checkpoint) / "README.md"
    assert "(8 items" in card.read_text(encoding="utf-8")
    again = evolve(place, "s", checkpoint=True, judged=6)
    assert again.checkpoint is not None
    text = (Path(again.checkpoint) / "README.md").read_text(encoding="utf-8")
    assert "(6 items" in text
    assert "(8 items" not in text
    assert text.count("## Limits") == text.count("## Evaluation") == 1


def reworded(split: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row | ({"question": row["question"] + " "} if row["split"] == split else {}) for row in rows]


def one_more(split: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        last = next(row for row in reversed(rows) if row["split"] == split)
        return [*rows, last | {"id": "one-more", "question": "1+1?", "reference": "2"}]

    return change


def one_less(split: str) -> Callable[[Rows], Rows]:
    return lambda rows: [row for row in rows if row is not next(one for one in rows if one["split"] == split)]


# With 300 of each split, all are asked, and a row more or less is another number of items.
@pytest.mark.parametrize("change", [reworded, one_more, one_less])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("counts", [(8, 6), (6, 8), (300, 300), (8, 300), (300, 8)])
def test_other_data_are_told_from_another_number_of_the_same(
    place: Path, split: str, change: Callable[[str], Callable[[Rows], Rows]], counts: tuple[int, int]
):
    if change is one_more and 300 not in counts[:1]:
        pytest.skip("of a few items drawn from many, a row more may leave all as they were")
    evolve(place, "s", judged=counts[0]) if counts[0] != 8 else None
    change_rows(place, change(split))
    kept = {path.name: path.read_bytes() for path in (place / "s").glob("*.json*")}
    with pytest.raises(StudyError, match=rf"another `sets\.{split}\.(content|items)` \(.*\): its .* have changed"):
        evolve(place, "s", judged=counts[1])
    assert {path.name: path.read_bytes() for path in (place / "s").glob("*.json*")} == kept


def test_more_than_there_are_is_no_other_number(place: Path, asked: list[int]):
    found = evolve(place, "s", judged=300)
    watch, made = Noting(), len(asked)
    assert evolve(place, "s", watch=watch, judged=400) == found
    assert (watch.notes, len(asked)) == ([], made)


@pytest.mark.slow
def test_each_recipe_of_front_and_atlas_is_made_again_by_itself(place: Path, asked: list[int]):
    routes = read_recipe(place / "two-stage.yaml")
    assert routes.then is not None
    free = routes.then.search.route.model_copy(update={"prefix": None})  # type: ignore[union-attr]
    others = {"algorithm": "nsga2", "objectives": ("layers",), "population": 4, "route": free}
    search = routes.then.search.model_copy(update=others)
    content = routes.model_dump(mode="json", by_alias=True) | {"then": None, "method": "passthrough"}
    front = Recipe.model_validate(content | {"search": search.model_dump(mode="json", by_alias=True)})
    evolve(place, "front", front, trials=8)
    evolve(place, "atlas", "atlas.yaml", keep_diverse=True)
    atlas = read_atlas(place / "atlas")
    assert atlas is not None
    made = len(asked)
    for recipe, out, more in ((front, "front", {"trials": 8}), ("atlas.yaml", "atlas", {"keep_diverse": True})):
        written = {path: path.read_bytes() for path in (place / out / out).glob("*.yaml")}
        assert written
        for path, content in written.items():
            for damage in (None, b"", b"sources: [", next(iter(written.values())) if len(written) > 9 else b"x: 1\n"):
                path.unlink() if damage is None else path.write_bytes(damage)
                evolve(place, out, recipe, **more)
                assert path.read_bytes() == content
    assert len(asked) == made


class Full:
    """Writes nothing: the disk is full, or there is no memory."""

    def __init__(self, fault: BaseException) -> None:
        self._fault = fault

    def __call__(self, *words: Any, **more: Any) -> None:
        raise self._fault


FAULTS = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), MemoryError("12 GB"), RuntimeError("what?")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_checkpoint_that_cannot_be_written_costs_no_result(
    place: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int], fault: Exception
):
    watch = Noting()
    with monkeypatch.context() as patch:
        patch.setattr("evovlm.evolution._export.build_checkpoint", Full(fault))
        with pytest.raises(type(fault)):
            evolve(place, "t", watch=watch, checkpoint=True)
    assert [note for note in watch.notes if "the result is kept, without a checkpoint" in note]
    kept = files.read_json(place / "t" / study_log.RESULT)
    made, again = len(asked), Noting()
    found = evolve(place, "t", watch=again, checkpoint=True)
    assert (again.phases, len(asked)) == (["checkpoint"], made), "nothing else is done"
    assert found.checkpoint is not None
    assert (Path(found.checkpoint) / "model.safetensors").exists()
    assert {key: value for key, value in found.content().items() if key != "checkpoint"} == kept
