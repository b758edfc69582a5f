"""A study that was begun on another processor, whose linear algebra chose other axes for CMA-ES."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evovlm.recipe.schema import Recipe
from evovlm.search import SEARCHERS, SearchSettings, make_searcher
from evovlm.search.space.parameters import Gene
from evovlm.search.stream import stream_of
from evovlm.study import log as study_log
from evovlm.study.sequential import run_sequential
from evovlm.study.steady import SteadyRun
from evovlm.study.study import Study, same_genome
from evovlm.system import files
from evovlm.system.errors import StudyError
from tests.known import Known
from tests.study.test_steady import OutOfStep

GENES, BITS, POPULATION, TRIALS, LONGER = 6, 2, 6, 24, 150
ROUNDED = sorted(set(SEARCHERS) - {"ga", "nsga2", "random"})
SOURCES = [{"name": f"s{number}", "model": f"org/s{number}"} for number in range(GENES)]
RECIPE = Recipe.model_validate({"kind": "llm", "base": {"model": "org/base"}, "sources": SOURCES, "method": "ties"})


def express(recipe: Recipe, genes: Sequence[Gene], genome: Sequence[float]) -> Recipe:
    """One weight per gene."""
    return recipe.weighted(dict(zip(recipe.source_names, genome, strict=True)))


def peak(recipe: Recipe) -> Known:
    return Known(100.0 - sum((float(recipe.of(name).weight) - 0.8) ** 2 for name in recipe.source_names))  # type: ignore[arg-type]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The other processor: its eigenvectors point the other way, as is right for eigenvectors."""
    plain = np.linalg.eigh

    def turned(matrix: Any, *args: Any, **more: Any) -> Any:
        values, vectors = plain(matrix, *args, **more)
        is_diagonal = not np.any(matrix - np.diag(np.diag(matrix)))  # no processor rounds anything then
        return values, vectors if is_diagonal else -vectors

    monkeypatch.setattr(np.linalg, "eigh", turned)
    return monkeypatch


def run(folder: Path, algorithm: str, trials: int, workers: int = 0) -> list[str]:
    """Search, and return what the user was told."""
    told: list[str] = []
    header = {"recipe": {}, "genes": [], "search": {}, "items": {"ids": ["one", "two"]}, "versions": {}}
    study = Study.open(folder, RECIPE, (), header, express, tell=told.append)
    bits = BITS if SEARCHERS[algorithm].bits else 0
    searcher = make_searcher(
        algorithm, SearchSettings(GENES, POPULATION, 0.5, 1 / 6, 0, bits, switch=POPULATION, active=None)
    )
    if workers:
        SteadyRun(study, stream_of(searcher), OutOfStep(workers, 0, evaluate=peak)).run(trials, lambda trial: None)
    else:
        run_sequential(study, searcher, peak, trials, lambda trial: None)
    return told


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("algorithm", ROUNDED)
def test_a_search_goes_on_from_the_log_of_another_processor(
    tmp_path: Path, elsewhere: pytest.MonkeyPatch, algorithm: str, workers: int
):
    run(tmp_path / "there", algorithm, TRIALS, workers)
    kept = (tmp_path / "there" / study_log.TRIALS).read_bytes()
    elsewhere.undo()
    run(tmp_path / "here", algorithm, TRIALS, workers)
    genomes = [[trial.genome for trial in study_log.read_trials(tmp_path / name)] for name in ("there", "here")]
    assert not all(map(same_genome, *genomes)), "this is about searches that differ"
    told = run(tmp_path / "there", algorithm, LONGER, workers)
    assert (tmp_path / "there" / study_log.TRIALS).read_bytes().startswith(kept)
    assert len(told) == 1
    assert "logged on another machine" in told[0]
    trials = study_log.read_trials(tmp_path / "there")
    assert len(trials) == LONGER
    early, late = (
        np.array([trial.genome[BITS:] for trial in part]) for part in (trials[:POPULATION], trials[-POPULATION:])
    )
    assert np.abs(late - 0.8).mean() < np.abs(early - 0.8).mean(), "it learns"
    again = run(tmp_path / "there", algorithm, LONGER + 2, workers)
    assert len(again) == 1, "the second resume repeats the first one's candidates too"


@pytest.mark.parametrize("algorithm", ROUNDED)
@pytest.mark.parametrize("trial", [0, POPULATION - 1, TRIALS - 1])
def test_an_edited_log_is_still_refused(tmp_path: Path, algorithm: str, trial: int):
    run(tmp_path, algorithm, TRIALS)
    rows = list(files.read_rows(tmp_path / study_log.TRIALS))
    rows[trial]["genome"][-1] = 0.123
    (tmp_path / study_log.TRIALS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(StudyError, match=rf"trial {trial} has another genome"):
        run(tmp_path, algorithm, TRIALS + 2)
