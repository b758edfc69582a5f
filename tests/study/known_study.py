"""A study of a known function in place of models: the best weight of `ja` is 0.8."""

from pathlib import Path
from typing import Any

from evovlm.recipe.schema import Recipe
from evovlm.search import Searcher, SearchSettings, make_searcher
from evovlm.search.space.parameters import Gene, genes_of
from evovlm.study import log as study_log
from evovlm.study.sequential import run_sequential
from evovlm.study.study import Study
from tests.known import Known

RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "dare_ties",
        "search": {"weight": [0.0, 1.0], "density": [0.1, 1.0]},
    }
)
GENES: tuple[Gene, ...] = genes_of(RECIPE, 4)
ITEMS = ("one", "two")


def peak(recipe: Recipe) -> Known:
    weight = recipe.of("ja").weight
    assert isinstance(weight, float)
    return Known(100.0 - (weight - 0.8) ** 2)


def header(**changes: Any) -> dict[str, Any]:
    return {
        "recipe": RECIPE.model_dump(mode="json", by_alias=True),
        "genes": [gene.name for gene in GENES],
        "search": {},
        "items": {"ids": list(ITEMS)},
        "versions": {"evovlm": "0"},
    } | changes


def searcher(seed: int = 0) -> Searcher:
    return make_searcher("cmaes", SearchSettings(len(GENES), None, 0.5, 1 / 6, seed))


def run(folder: Path, trials: int, evaluate: Any = peak, seed: int = 0) -> Study:
    study = Study.open(folder, RECIPE, GENES, header())
    run_sequential(study, searcher(seed), evaluate, trials, lambda trial: None)
    return study


def logged(folder: Path) -> bytes:
    return (folder / study_log.TRIALS).read_bytes()
