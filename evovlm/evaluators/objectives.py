"""Several objectives of one candidate: its score, and another task's score, its latency, or its depth.

Knows evaluators; no searchers. Every objective is higher-is-better, so costs are negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evovlm.evaluators.evaluation import refuse_silent
from evovlm.evaluators.local import Evaluation, LocalEvaluator
from evovlm.recipe.schema import Recipe
from evovlm.recipe.where import split_where
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged
from evovlm.system.progress import Progress
from evovlm.tasks import Options, parse_split
from evovlm.tasks.item_sets import ItemSet, read_item_set

Objective = Callable[[Recipe, Evaluation], float]
COSTS = ("latency", "layers")


@dataclass(frozen=True)
class Judge:
    """Scores candidates on the search items and on every further objective."""

    evaluator: LocalEvaluator
    items: ItemSet
    further: tuple[Objective, ...]
    progress: Progress | None = None  # for the search items

    def __call__(self, recipe: Recipe) -> Evaluation:
        """Evaluate a candidate on the search items; with further objectives, all are in `values`.

        Raises ValueError if every answer is empty, and the errors of `LocalEvaluator.evaluate`.
        """
        found = refuse_silent(self.evaluator.evaluate(recipe, self.items, self.progress))
        if not self.further:
            return found
        return replace(found, values=(found.score, *(objective(recipe, found) for objective in self.further)))


def make_judge(
    evaluator: LocalEvaluator,
    recipe: Recipe,
    items: ItemSet,
    objectives: Mapping[str, ItemSet] | None = None,
    progress: Progress | None = None,
) -> Judge:
    """Return the judge for a recipe's search.

    `objectives`: the items of those that are tasks (`objective_items`). `progress`: see `LocalEvaluator.evaluate`.
    """
    search = recipe.search
    assert search is not None
    named = [_objective(name, evaluator, objectives or {}) for name in search.objectives]
    return Judge(evaluator, items, tuple(named), progress)


def refuse_unknown(objectives: Sequence[str]) -> None:
    """Raise RecipeError for an unknown objective, or one that would search on a test set."""
    for text in unknown_objectives(objectives):
        raise RecipeError(f"search.objectives: {text}")


def unknown_objectives(objectives: Sequence[str]) -> Iterator[str]:
    """What is wrong with each objective that is unknown, or that would search on a test set."""
    for name in objectives:
        if name in COSTS:
            continue
        if ":" not in name:
            yield f"unknown objective {abridged(name)!r}; choose from {list(COSTS)}, or give TASK:SPLIT"
            continue
        try:
            task, split = parse_split(name, key="objective")
        except RecipeError as error:
            yield str(error).removeprefix("objective: ")
            continue
        if split in task.test_splits:
            yield f"{abridged(name)} is a test set; choose another split for the search"


def objective_items(
    recipe: Recipe, root: Path, count: int, *, download: bool, commits: dict[str, str] | None = None
) -> dict[str, ItemSet]:
    """The items of each objective that is TASK:SPLIT, by its name: `count` of them, drawn with the search's seed.

    They are found as the recipe's other data are: paths count from `root`, and the hub is asked only with `download`.
    An objective of the search's own task is asked with the recipe's preset, another task with its own default.
    `commits` gains the commit of each data set that came from the hub. Raises DataError if they cannot be read.
    """
    search, data = recipe.search, recipe.data
    assert search is not None
    presets = {} if data is None else {split_where(data.search)[0]: data.preset}
    options = Options(
        download=download,
        revisions={} if data is None else data.revisions,
        commits={} if commits is None else commits,
    )
    found = {}
    for name in (one for one in search.objectives if one not in COSTS):
        asked = replace(options, preset=presets.get(split_where(name)[0]))
        found[name] = read_item_set("objective", name, count, search.seed, options=asked, root=root)
    return found


def _objective(name: str, evaluator: LocalEvaluator, objectives: Mapping[str, ItemSet]) -> Objective:
    """The function for an objective's name; for a task, its score on its items."""
    if name == "layers":
        return lambda recipe, found: -float(len(recipe.route) or evaluator.assembly.layers)
    if name == "latency":  # milliseconds per answer, on this machine
        return lambda recipe, found: -1000 * found.answering / len(found.scores)
    return lambda recipe, found: evaluator.evaluate(recipe, objectives[name]).score
