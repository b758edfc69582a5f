"""Which controls a winner must beat, among how many candidates each was chosen, and on what."""

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evolution import _unmerged
from evovlm.evolution._controls import CONTROLS, contestants, searched
from evovlm.evolution._held_out import Contestant, failed, judge
from evovlm.merging.assembly import assemble
from evovlm.models.open_model import OpenModel
from evovlm.recipe.route import Step
from evovlm.recipe.schema import Options, Recipe
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.study.result import FailedRow, Result
from evovlm.system.errors import (
    CandidateFault,
    CheckpointError,
    DataError,
    LackingMemory,
    MachineFault,
    NotFinite,
    StudyError,
)
from evovlm.system.progress import Progress, Quiet
from evovlm.tasks import Item, load_task
from evovlm.tasks.item_sets import ItemSet, ItemSets

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TASK = load_task("zoo-maths")
ITEMS = tuple(Item(str(number), f"{number}?", ("1",), None) for number in range(4))
TEST = ItemSet("test", "zoo-maths:test", TASK, ITEMS)
CHOICE = ItemSet(
    "validation", "zoo-maths:validation", TASK, tuple(Item(f"v{one.id}", "?", ("1",), None) for one in ITEMS)
)


SETS = ItemSets(replace(CHOICE, name="search", where="zoo-maths:search"), CHOICE, TEST, 0)


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Unmerged models answer `x`; which model was asked which items."""
    asked: list[tuple[str, str]] = []

    def answer(evaluator: Any, model: OpenModel, items: ItemSet, progress: Progress) -> Evaluation:
        asked.append((model.label, items.name))
        return Evaluation((0.0,) * len(items), (False,) * len(items), ("x",) * len(items))

    monkeypatch.setattr(_unmerged, "answer_source", answer)
    return asked


def unheard(done: int, total: int) -> None: ...


class Scoring:
    """An evaluator of real models' recipes that scores by a rule, and notes which items were asked."""

    def __init__(self, recipe: Recipe, score: Callable[[Recipe], float]) -> None:
        self.assembly, self._score = assemble(recipe, RECIPES), score
        self.engine, self.batch, self.on_halved = SimpleNamespace(device="cpu", dtype=None), 1, None
        self.cache = None
        self.asked: list[str] = []

    def evaluate(self, recipe: Recipe, items: ItemSet, progress: Progress) -> Evaluation:
        progress(0, len(items))
        self.asked.append(items.name)
        return Evaluation((self._score(recipe),) * len(items), (False,) * len(items), ("x",) * len(items))


def rows_of(name: str, score: Callable[[Recipe], float], **changes: Any) -> tuple[list[Contestant], Scoring]:
    recipe = read_recipe(RECIPES / name).model_copy(update=changes)
    evaluator = Scoring(recipe, score)
    rows = contestants(evaluator, recipe, SETS, Quiet(), trials=100)  # type: ignore[arg-type]
    return rows, evaluator


def near(source: str, best: float) -> Callable[[Recipe], float]:
    """A rule: the nearer a source's weight to the best one, the better."""
    return lambda recipe: 100 - abs(float(recipe.of(source).weight) - best)  # type: ignore[arg-type]


def told(rows: Sequence[Contestant]) -> dict[str, tuple[dict[str, Any], str | None, int | None]]:
    return {row.name: (dict(row.detail), row.chosen_on, row.tries) for row in rows if row.section != "sources"}


PRIOR = ("prior", ({"of": "the most frequent answers to 5,004 other questions"}, None, 1))


def test_a_vlms_controls_in_order_with_what_each_was_chosen_on(sources: list[tuple[str, str]]):
    rows, evaluator = rows_of("zoo-vlm.yaml", near("ja", 0.3))
    digest = evaluator.assembly.recipe.digest()
    assert [row.name for row in rows[:3]] == ["base", "vlm", "ja"]
    assert list(told(rows).items()) == [
        ("evolved", ({"digest": digest}, "validation", 100)),
        ("average", ({}, None, 1)),
        ("plugged_in", ({"source": "ja"}, None, 1)),
        ("sweep", ({"weight": 0.3, "of": "one weight for all task vectors"}, "validation", 11)),
        ("tsv", ({"weight": 0.4, "of": "one weight for all sources"}, "validation", 5)),
        ("interpolation", ({"weight": 0.3, "of": "ja"}, "validation", 11)),
        ("shuffled_images", ({"digest": digest}, None, 1)),
        PRIOR,
        ("restyled", ({"source": "base"}, "validation", 3)),
    ]
    assert sources == [(name, "validation") for name in ("base", "vlm", "ja")]
    assert set(evaluator.asked) == {"validation"}, "nothing is chosen on the test"
    assert len(evaluator.asked) == 27


def test_a_language_models_controls():
    rows, evaluator = rows_of("zoo-llm.yaml", near("math2", 0.7))
    assert list(told(rows)) == ["evolved", "average", "sweep", "tsv", "single_vector", "prior", "restyled"]
    assert told(rows)["single_vector"] == ({"source_and_weight": "math2:0.7"}, "validation", 33)
    row = next(row for row in rows if row.name == "single_vector")
    assert row.evaluate(unheard).score == 100
    assert evaluator.asked[-1] == "test"


def test_a_routes_controls():
    route = tuple(Step(source="ja", layer=layer, scale=1.5 if layer else 1.0) for layer in range(8))
    rows, evaluator = rows_of("zoo-dfs.yaml", lambda recipe: float(len(recipe.route)), route=route)
    digest = evaluator.assembly.recipe.digest()
    assert told(rows) == {
        "evolved": ({"digest": digest}, "validation", 100),
        "tsv": ({}, None, None),
        "without_scales": ({"digest": digest}, None, 1),
        "layers_of_math": ({}, None, 1),
        "prior": PRIOR[1],
        "restyled": ({"source": "ja"}, "validation", 2),
    }
    assert evaluator.asked == []
    by_name = {row.name: row for row in rows}
    assert by_name["layers_of_math"].evaluate(unheard).score == 8


def test_tsv_says_why_it_is_not_there(tmp_path: Path):
    base = {"base": None, "method": "linear", "owner": "vlm"}
    stack = {"route": tuple(Step(source="ja", layer=layer) for layer in range(8))}
    for name, changes, why in (
        ("zoo-vlm.yaml", base, "the recipe has no base, and TSV-M merges task vectors"),
        ("zoo-dfs.yaml", stack, "the recipe orders layers, and TSV-M merges tensors"),
    ):
        rows, _ = rows_of(name, lambda recipe: 1.0, **changes)
        folder = tmp_path / name
        folder.mkdir()
        table = judge(folder, rows, TEST, searched="zoo-maths", seed=0, watch=Quiet())
        assert table.controls["tsv"] == FailedRow(error=f"left out: {why}")


def test_tsvs_candidates_are_of_the_method_with_its_defaults_and_one_weight():
    options = Options(lambda_=0.5, normalize=True)
    recipe = read_recipe(RECIPES / "zoo-llm.yaml").model_copy(update={"options": options})
    control = next(one for one in CONTROLS if one.name == "tsv")
    candidates = control.candidates(recipe, assemble(recipe, RECIPES))
    assert list(candidates) == ["0.4", "0.7", "1.0", "1.3", "1.6"]
    for label, candidate in candidates.items():
        assert candidate.method == "tsv_m"
        assert candidate.options == Options()
        assert {candidate.of(name).weight for name in candidate.source_names} == {float(label)}


def test_a_control_that_fails_everywhere_but_at_one_weight_takes_that():
    def fails(recipe: Recipe) -> float:
        if recipe.of("ja").weight != 0.4:
            raise CandidateFault("every answer is empty")
        return 1.0

    rows, _ = rows_of("zoo-vlm.yaml", fails)
    assert told(rows)["sweep"][0]["weight"] == 0.4


def test_another_searchs_winner_was_chosen_among_its_trials():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    row = searched(Scoring(recipe, near("ja", 1)), "random_search", recipe, TEST, CHOICE, trials=50)  # type: ignore[arg-type]
    assert told([row]) == {"random_search": ({"digest": recipe.digest(), "trials": 50}, "validation", 50)}


def test_every_control_has_a_name_of_its_own_and_the_report_knows_it():
    from evovlm.report.words import CONTROL_NAMES

    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)
    assert {name for name in names if "{}" not in name} <= set(CONTROL_NAMES)


def test_answers_that_were_stored_before_tries_were_told_are_found_again(tmp_path: Path):
    keys = ["evolved digest=abc", "sweep of=one weight for all task vectors weight=0.3"]
    lines = [
        {"model": key.split()[0], "key": key, "id": item.id, "question": "?", "references": ["1"]}
        | {"answer": "1", "score": 50.0, "exact": False}
        for key in keys
        for item in ITEMS
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / study_log.HELD_OUT_ANSWERS).write_text(text, encoding="utf-8")

    def again(progress: Progress) -> Evaluation:
        pytest.fail("a stored answer was generated again")

    sweep = {"weight": 0.3, "of": "one weight for all task vectors"}
    rows = [
        Contestant("evolved", "evolved", again, {"digest": "abc"}, chosen_on="validation", tries=100),
        Contestant("sweep", "controls", again, sweep, chosen_on="validation", tries=11),
    ]
    table = judge(tmp_path, rows, TEST, searched="zoo-maths", seed=0, watch=Quiet())
    compared = {"versus_evolved", "content_versus_evolved"}
    assert table.controls["sweep"].model_dump(exclude_unset=True, exclude=compared) == {
        "score": 50.0,
        "exact": 0.0,
        "ci95": (50.0, 50.0),
        "content": 1.0,
        "content_ci95": pytest.approx((0.5101, 1.0), abs=5e-5),
        "items": 4,
        **sweep,
        "chosen_on": "validation",
        "tries": 11,
    }
    assert (tmp_path / study_log.HELD_OUT_ANSWERS).read_text(encoding="utf-8") == text


def scored(value: float) -> Evaluation:
    return Evaluation((value,) * 4, (False,) * 4, ("x",) * 4)


def row(name: str, section: str, outcome: Evaluation | Exception) -> Contestant:
    def evaluate(progress: Progress) -> Evaluation:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Contestant(name, section, evaluate, {})


def table_of(folder: Path, *rows: Contestant) -> Any:
    return judge(folder, rows, TEST, searched="zoo-maths", seed=0, watch=Quiet())


def test_a_control_that_fails_is_a_row_and_the_others_are_scored(tmp_path: Path):
    rows = [
        row("ja", "sources", NotFinite("the logits are not finite")),
        row("odd", "sources", CheckpointError("odd: evovlm does not support this kind of model")),
        row("evolved", "evolved", scored(60.0)),
        row("average", "controls", CandidateFault("every answer is empty")),
        failed("random_search", "no candidate has a score"),
        row("sweep", "controls", scored(40.0)),
    ]
    table = table_of(tmp_path, *rows)
    assert table.sources == {
        "ja": FailedRow(error="failed: NotFinite: the logits are not finite"),
        "odd": FailedRow(error="failed: odd: evovlm does not support this kind of model"),
    }
    assert table.controls["average"] == FailedRow(error="failed: CandidateFault: every answer is empty")
    assert table.controls["random_search"] == FailedRow(error="failed: no candidate has a score")
    assert table.controls["sweep"].score == 40.0
    assert list(table.scored_controls) == ["sweep"]
    written = Result(held_out=table).content()
    assert written["held_out"]["controls"]["average"] == {"error": "failed: CandidateFault: every answer is empty"}
    assert Result.model_validate(json.loads(json.dumps(written))).held_out == table


FAULTS: list[tuple[Exception, str, bool]] = [
    (CandidateFault("every answer is empty"), "CandidateFault: every answer is empty", False),
    (CheckpointError("x: weights are missing"), "x: weights are missing", False),
    (DataError("q-1: its image cannot be read"), "q-1: its image cannot be read", True),
    (StudyError("5 candidates in a row failed"), "5 candidates in a row failed", True),
    (MemoryError("12 GB"), "not enough memory (12 GB)", True),
    (LackingMemory("12 GB are too much"), "12 GB are too much", True),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12 GB"), "not enough memory (CUDA out", True),
    (FileNotFoundError(2, "No such file or directory", "x"), "FileNotFoundError: [Errno 2]", True),
    (KeyError("lm_head"), "KeyError: 'lm_head'", True),
    (TypeError("no"), "TypeError: no", True),
    (AssertionError(), "AssertionError", True),
    (RuntimeError("shapes"), "RuntimeError: shapes", True),
]


@pytest.mark.parametrize(("fault", "told", "again"), FAULTS, ids=[type(one[0]).__name__ for one in FAULTS])
@pytest.mark.parametrize("section", ["sources", "controls"])
def test_whatever_fails_a_source_or_control_is_a_row(
    tmp_path: Path, section: str, fault: Exception, told: str, again: bool
):
    evolved, sweep = row("evolved", "evolved", scored(60.0)), row("sweep", "controls", scored(40.0))
    table = table_of(tmp_path, row("it", section, fault), evolved, sweep)
    found = getattr(table, section)["it"]
    assert found.error.startswith(f"failed: {told}")
    assert found.again == again
    assert table.controls["sweep"].score == 40.0
    never = row("evolved", "evolved", AssertionError("a stored answer was generated again"))
    table = table_of(tmp_path, row("it", section, scored(50.0)), never, sweep)
    assert getattr(table, section)["it"].score == 50.0, "it is tried again"


@pytest.mark.parametrize(
    "fault",
    [
        MachineFault("MeCab cannot start"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("section", ["sources", "controls"])
def test_what_would_fail_every_row_ends_the_comparison_and_the_same_command_goes_on(
    tmp_path: Path, section: str, fault: Exception
):
    evolved, sweep = row("evolved", "evolved", scored(60.0)), row("sweep", "controls", scored(40.0))
    with pytest.raises((MachineFault, OSError)) as raised:
        table_of(tmp_path, evolved, row("it", section, fault), sweep)
    assert str(fault) in str(raised.value)
    never = row("evolved", "evolved", AssertionError("a stored answer was generated again"))
    table = table_of(tmp_path, never, row("it", section, scored(50.0)), sweep)
    assert getattr(table, section)["it"].score == 50.0


def test_a_winner_that_lacks_memory_ends_the_comparison(tmp_path: Path):
    with pytest.raises(MachineFault, match="12 GB"):
        table_of(tmp_path, row("evolved", "evolved", MemoryError("12 GB")))


def test_a_winner_that_fails_ends_the_study_with_a_sentence(tmp_path: Path):
    with pytest.raises(StudyError, match=r"the winner cannot be scored on the test items \(.*every answer is empty"):
        table_of(tmp_path, row("evolved", "evolved", CandidateFault("every answer is empty")))


@pytest.mark.parametrize("fault", [MemoryError("12 GB"), DataError("12 GB"), OSError(errno.ENOENT, "12 GB")])
def test_a_control_that_cannot_try_one_of_its_candidates_is_not_picked_among_the_others(
    tmp_path: Path, fault: Exception
):
    def lacks(recipe: Recipe) -> float:
        if recipe.of("ja").weight == 0.4:
            raise fault
        return 1.0

    rows, _ = rows_of("zoo-vlm.yaml", lacks)
    table = table_of(tmp_path, *(one for one in rows if one.section != "sources"))
    for name in ("sweep", "interpolation"):
        assert isinstance(table.controls[name], FailedRow)
        assert "12 GB" in table.controls[name].error
        assert table.controls[name].again
    assert table.controls["average"].score == 1.0


def test_a_control_none_of_whose_candidates_has_a_score_is_a_failed_row(tmp_path: Path):
    def fails(recipe: Recipe) -> float:
        if recipe.method == "task_arithmetic":
            raise CandidateFault("every answer is empty")
        return 1.0

    rows, _ = rows_of("zoo-vlm.yaml", fails)
    table = table_of(tmp_path, *(one for one in rows if one.section != "sources"))
    assert table.controls["sweep"] == FailedRow(error="failed: CandidateFault: every answer is empty")


def test_a_broken_gpu_while_a_control_is_picked_ends_the_comparison():
    def breaks(recipe: Recipe) -> float:
        raise RuntimeError("CUDA error: unspecified launch failure")

    with pytest.raises(MachineFault, match="unspecified launch failure"):
        rows_of("zoo-vlm.yaml", breaks)


def test_a_failed_row_is_shown_in_the_terminal_the_report_and_the_app(tmp_path: Path):
    from rich.console import Console

    from evovlm.cli.console import held_out_table as in_terminal
    from evovlm.evolution._export import evaluation_text
    from evovlm.report._sections import held_out_table as in_report
    from evovlm.report.data import read_study
    from evovlm.report.words import shows
    from evovlm_app.studyview import held_out_table as in_app
    from tests.report.study_folder import make_study

    study = make_study(tmp_path / "study")
    path = study / study_log.RESULT
    content = json.loads(path.read_text(encoding="utf-8"))
    text = "failed: CandidateFault: every answer is <empty> [bold]"
    content["held_out"]["controls"] = {"average": {"error": text}}
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_study(study)
    assert found.result is not None
    console = Console(width=160, record=True)
    console.print(in_terminal(found.result))
    assert text in " ".join(console.export_text().split())
    escaped = "failed: CandidateFault: every answer is &lt;empty&gt; [bold]"
    assert escaped in in_report(found.result)
    assert escaped in in_app(found, "en")
    assert "the best control" not in " ".join(shows(found))
    assert "average" not in evaluation_text(found.result)
