"""Rank candidate models of one family for a task with cheap tests, and explain each rank.

Knows assemblies, an evaluator, kinship and spectra; no command line. First the task vectors are examined: noise and
noisy copies are ranked last, whatever their scores. Then greedy forward selection: a source is worth what it adds to
those chosen before it, in merges found by a small search, because a source that is over-tuned in some layers can be
useless at one weight and the best of all without those layers (`merge_search`). A small search uses one half of the
items, and its merge is scored on the other half.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from evovlm.evaluators.local import LocalEvaluator
from evovlm.evolution.suggest._merge_search import MergeSearch
from evovlm.evolution.suggest._spectra import Spectra, spectra
from evovlm.evolution.suggest.kinship import Kinship, kinship
from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.check import twins
from evovlm.recipe.layer_groups import group_in_words
from evovlm.recipe.limits import MOST_SOURCES
from evovlm.recipe.schema import Base, Recipe, Source
from evovlm.system.device import check_device, current_gpu
from evovlm.system.errors import RecipeError
from evovlm.system.plain_text import abridged
from evovlm.system.progress import Watch, tell
from evovlm.system.statistics import paired_difference, standard_error
from evovlm.tasks import Options, parse_split
from evovlm.tasks.item_sets import read_item_set

ALIKE = 0.5  # two sources with a cosine above this are tested for being copies
NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")  # what a source's name cannot have
MOST_NAME = 90  # characters; a number may follow
GROUPS = 4  # blocks of layers that a small search may leave out, in addition to embeddings and head


@dataclass(frozen=True)
class Suggestion:
    """A ranked source: its score alone and with those before it (0 to 100), and the points it adds."""

    source: str
    alone: float
    together: float
    adds: float
    low: float  # 95 % interval of `adds`, paired over items
    high: float
    norm: float
    prominence: float  # of its task vector: about 1 for noise
    without: tuple[str, ...]  # the layer groups that are better left out
    reason: str


@dataclass(frozen=True)
class Advice:
    """The ranking, the base's own score, the kinship of the task vectors, and the number of answers used."""

    base_score: float
    ranking: tuple[Suggestion, ...]
    kinship: Kinship
    answers: int


def named_models(models: Sequence[str | Path] | str | Path) -> list[str]:
    """The models that are meant: those given, or those in the one folder that is given."""
    names = [str(models)] if isinstance(models, str | Path) else [str(model) for model in models]
    if len(names) == 1 and Path(names[0]).is_dir():
        names = sorted(str(path.parent) for path in Path(names[0]).glob("*/config.json"))
    return names


def most_merges(count: int) -> int:
    """How many merges `suggest` tries at most for `count` models; fewer if some are noise or copies.

    The base; each model alone; each after each other one; and each place after the first.
    """
    return 1 + count + count * (count - 1) + count * (count - 1) // 2


def suggest(
    base: str,
    models: Sequence[str],
    data: str,
    *,
    items: int,
    seed: int,
    root: Path,
    device: str,
    watch: Watch,
    download: bool = False,
) -> Advice:
    """Rank language models that were tuned from one base, for a task (TASK:SPLIT).

    `watch`: a step per tensor and pass over the models, then one per merge. `download`: whether models and data may be
    fetched. Raises RecipeError for fewer than two models or a test split, UserError for a device that is not there,
    and the errors of opening the models.
    """
    place = check_device(device)
    options = Options(download=download)
    task, split = parse_split(data, options)
    if split in task.test_splits:
        raise RecipeError(f"--data {abridged(data)}: a test set; choose sources on another split")
    asked = read_item_set("search", data, items, seed, options=options)
    if len(asked) < 2:
        raise RecipeError(
            f"--data {abridged(data)}: has one item; give two or more, one half decides and the other judges"
        )
    recipe = _recipe(base, models, seed)
    # The maximum number of blocks is known only once the models are open.
    recipe = recipe.model_copy(update={"groups": min(GROUPS, assemble(recipe, root, download=download).layers)})
    assembly = assemble(recipe, root)
    _refuse_twins(assembly, dict(zip(recipe.source_names, models, strict=True)))
    watch.phase("task vectors", 2 * len(assembly.jobs))
    with current_gpu(place):
        kin = kinship(assembly, place, watch.step)
        shapes = spectra(assembly, [pair for pair, cosine in kin.cosines.items() if cosine > ALIKE], place, watch.step)
    evaluator = LocalEvaluator(assembly, batch=150, device=device, tell=partial(tell, watch))
    watch.phase("merges", most_merges(len(models)))
    search = MergeSearch(evaluator, recipe, asked, assembly.layers, watch.step)
    ranking = tuple(Ranking(search, kin, shapes, seed).ranked(recipe.source_names))
    return Advice(search.base.score, ranking, kin, search.answers)


class Ranking:
    """Greedy forward selection; noise and copies come last."""

    def __init__(self, search: MergeSearch, kin: Kinship, shapes: Spectra, seed: int) -> None:
        self._search, self._kin, self._shapes, self._seed = search, kin, shapes, seed

    def ranked(self, names: Sequence[str]) -> list[Suggestion]:
        """All sources, the most useful first."""
        own = [name for name in names if not self._shapes.is_noise(name) and self._shapes.original(name) is None]
        chosen: list[str] = []
        ranking = []
        for group, small in ((own, True), ([name for name in names if name not in own], False)):
            left = list(group)
            while left:
                best = self._next(left, chosen, group, small)
                ranking.append(self._placed(best, chosen, small))
                chosen.append(best)
                left.remove(best)
        return ranking

    def _next(self, left: Sequence[str], chosen: Sequence[str], group: Sequence[str], small: bool) -> str:
        """The best next source: of those within one standard error of the best, the one with the best score alone.

        When the chosen sources already score well, the others add little, and chance could put a useless source first.
        The one-standard-error rule: Breiman et al., Classification and Regression Trees (1984), 3.4.3.
        """
        best = max(left, key=lambda name: self._worth(name, chosen, group, small))
        if not chosen:
            return best
        scores = np.array(self._search.of(chosen, best, small=small).scores)
        even = []
        for name in left:
            behind = scores - self._search.of(chosen, name, small=small).scores
            if behind.mean() <= standard_error(behind.tolist()):
                even.append(name)
        return max(even, key=lambda name: self._search.of([], name, small=small).score)

    def _worth(self, name: str, chosen: Sequence[str], group: Sequence[str], small: bool) -> float:
        """The score together with the chosen sources; for the first place, a Shapley value truncated at pairs.

        That value is the mean of what a source adds to the base and what it adds, on average, to one other source.
        """
        score = self._search.of(chosen, name, small=small).score
        others = [other for other in group if other != name]
        if chosen or not others:
            return score
        pairs = [
            self._search.of([other], name, small=False).score - self._search.of([], other, small=small).score
            for other in others
        ]
        return (score - self._search.base.score + sum(pairs) / len(pairs)) / 2

    def _placed(self, name: str, chosen: Sequence[str], small: bool) -> Suggestion:
        before = self._search.made(chosen)
        after = self._search.of(chosen, name, small=small)
        gain = paired_difference(after.scores, before.scores, seed=self._seed)
        without = self._search.left_out([*chosen, name], name)
        return Suggestion(
            source=name,
            alone=self._search.of([], name, small=small).score,
            together=after.score,
            adds=gain.mean,
            low=gain.low,
            high=gain.high,
            norm=self._kin.norms[name],
            prominence=self._shapes.own[name],
            without=without,
            reason=self._reason(name, tuple(chosen), gain.low, gain.high, without),
        )

    def _reason(self, name: str, chosen: tuple[str, ...], low: float, high: float, without: Sequence[str]) -> str:
        """The reason for a source's rank, in one sentence."""
        original = self._shapes.original(name)
        if self._shapes.is_noise(name):
            return f"its task vector looks like noise: no dominant direction (prominence {self._shapes.own[name]:.2f})"
        if original is not None:
            rest = self._shapes.beside[name, original]
            return (
                f"a copy of {original} (cosine {self._kin.cosine(name, original):.2f}) with noise: the difference"
                f" has no dominant direction (prominence {rest:.2f})"
            )
        words = "no significant gain"
        if not chosen:
            words = "adds most to the base and to the other sources"
        elif low > 0 or high < 0:
            words = "improves on those above" if low > 0 else "makes those above worse"
        if without:
            words += f"; better without its {' and '.join(map(group_in_words, without))}"
        closest = self._kin.closest(name, chosen)
        if closest is None:
            return words
        pair = closest[0], name
        conflict = self._kin.conflicts.get(pair, self._kin.conflicts.get((pair[1], pair[0]), 0.0))
        return f"{words}; cosine {closest[1]:.2f} and {conflict:.0%} sign conflicts with {closest[0]}"


def _refuse_twins(assembly: Assembly, named: Mapping[str, str]) -> None:
    """Raise RecipeError if two models are the same, or one is the base. `named`: models by their sources' names."""
    assert assembly.base is not None
    for one, other in twins([assembly.base, *assembly.sources.values()]):
        here = named[other.label]
        if one is assembly.base:
            raise RecipeError(f"{here} is the base itself, so it has nothing to add; leave it out")
        there = named[one.label]
        given = f"{here} is given twice" if here == there else f"{there} and {here} are the same model"
        raise RecipeError(f"{given}; give each model once")


def _recipe(base: str, models: Sequence[str], seed: int) -> Recipe:
    if len(models) < 2:
        raise RecipeError("give two or more models, or a folder that contains them")
    if len(models) > MOST_SOURCES:
        raise RecipeError(f"{len(models)} models are too many to rank; give at most {MOST_SOURCES}")
    named: dict[str, str] = {}
    for model in models:
        name = NO_NAME.sub("-", model.removeprefix("zoo:").rstrip("/").rsplit("/", 1)[-1]).lstrip("._-")[:MOST_NAME]
        name = name or "model"
        named[name if name not in named else f"{name}-{len(named)}"] = model
    return Recipe(
        kind="llm",
        base=Base(model=base),
        sources=tuple(Source(name=name, model=model) for name, model in named.items()),
        method="task_arithmetic",
        seed=seed,
    )
