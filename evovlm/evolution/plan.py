"""The plan of a search: everything that is fixed before the first candidate.

Opens models, selects items, names genes; does not merge or evaluate anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evovlm.evaluators.local import computing_dtype
from evovlm.evaluators.objectives import objective_items, refuse_unknown
from evovlm.evolution._atlas import refuse_atlas
from evovlm.evolution._fidelity import settled
from evovlm.evolution.search_loop import Workers, raced_recipe
from evovlm.merging.assembly import Assembly, assemble, with_recipe
from evovlm.merging.build import refuse_unbuildable
from evovlm.merging.check.route import depth_of
from evovlm.merging.live.choose import AUTOMATIC, Keeping
from evovlm.recipe.pinning import pinned
from evovlm.recipe.schema import Recipe
from evovlm.search import Searcher, make_searcher
from evovlm.search.race import RaceSettings
from evovlm.search.space.data_flow import DataFlow, data_flow
from evovlm.search.space.parameters import Gene, express, genes_of, search_of, search_settings
from evovlm.study.log import FORMAT
from evovlm.study.study import Express
from evovlm.system.errors import RecipeError
from evovlm.system.version import hardware, versions
from evovlm.tasks import Task
from evovlm.tasks.item_sets import (
    ITEMS,
    ItemSet,
    ItemSets,
    data_of,
    data_options,
    items_hash,
    read_item_set,
    read_item_sets,
    why_not_in_chat,
)


@dataclass(frozen=True, kw_only=True)
class EvolveSettings:
    """Settings of a search: overrides of the recipe (None: the recipe's value), device and options."""

    trials: int | None = None
    items: int | None = None
    seed: int | None = None
    judged: int | None = None
    device: str = "cpu"
    checkpoint: bool = False
    download: bool = False
    rivals: bool = False  # also run random search and a search of one weight per source, with as many trials each
    workers: Workers | None = None  # None: candidates are evaluated in this process
    race: RaceSettings | Literal[False] | None = None  # None: as the recipe says; False: all are asked all items
    keep_diverse: bool = False  # write an atlas: the best merge for each skill profile
    keeping: Keeping = AUTOMATIC  # where a merge on a GPU keeps its sources
    self_check: bool = True  # compare each engine's logits with those of the model's own forward pass
    profile: bool = False  # measure the machine's rates, and report seconds per phase against them


@dataclass(frozen=True)
class Plan:
    """Everything that is fixed before the first candidate; `--dry-run` prints it."""

    recipe: Recipe
    settings: EvolveSettings
    assembly: Assembly
    genes: tuple[Gene, ...]
    sets: ItemSets
    trials: int
    space: DataFlow | None = None  # None: weights and densities are searched
    objectives: Mapping[str, ItemSet] = field(default_factory=dict)  # items of further tasks, by the objective's name
    fidelity: str = ""  # a sentence on the search's lower fidelity, if there is something to say

    @property
    def task(self) -> Task:
        """The task that scores the search."""
        return self.sets.search.task

    @property
    def search_items(self) -> ItemSet:
        """The items that candidates are asked."""
        return self.sets.search

    def searcher(self, switch: int | None = None) -> Searcher:
        """A new searcher; the same plan always gives the same one.

        `switch`: that of the study, if it was begun with another number of trials, which a default depends on.
        """
        search = search_of(self.recipe)
        if switch is not None:
            search = search.model_copy(update={"switch": switch})
        return make_searcher(search.algorithm, search_settings(search, self.genes, self.space))

    @property
    def revisions(self) -> dict[str, dict[str, str]]:
        """The commits of the models (by key in the recipe) and data sets (by repository) that came from the hub."""
        return {"models": self.assembly.commits, "data": dict(self.sets.commits)}

    def winning(self, winner: Recipe) -> Assembly:
        """The assembly of a winner, whose recipe names the commits of the data sets that chose it."""
        return with_recipe(self.assembly, pinned(winner, {}, self.sets.commits))

    @property
    def express(self) -> Express:
        """The function that maps a genome to its recipe."""
        space = self.space
        return express if space is None else lambda recipe, genes, genome: space.express(recipe, genome)

    @property
    def race(self) -> RaceSettings | None:
        """How candidates are raced; None: all are asked all search items."""
        return _race(self.recipe, self.settings)

    def header(self) -> dict[str, Any]:
        """The study's header, as JSON data. It does not fix the number of trials: a study can be extended."""
        content = self.recipe.model_dump(mode="json", by_alias=True)
        search = content["search"] | {"trials": None}
        header = {
            "format": FORMAT,
            "recipe": content | {"search": search},
            "digest": self.recipe.digest(),
            "genes": [gene.name for gene in self.genes],
            "search": search,
            "items": {"task": self.task.name, "ids": [item.id for item in self.search_items]},
            "data": content["data"],
            "generation": self.task.generation.content,
            "rules": dict(self.task.rules),
            "revisions": self.revisions,
            "self_check": self.settings.self_check,
            "dtype": str(computing_dtype(self.assembly, self.settings.device)).removeprefix("torch."),
            "device": self.settings.device.partition(":")[0],
            "sets": self._hashed_sets(),
            "versions": versions(),
            "hardware": hardware(self.settings.device),
        }
        if self.space is not None:  # fixed when the study is begun, because its default is half of the trials
            header["switch"] = search_settings(search_of(self.recipe), self.genes, self.space).switch
        if self.settings.keeping.eight_bit:
            header["eight_bit"] = True  # the weights differ, so it is another study
        if self.race is not None:
            header["race"] = asdict(self.race)
        # A round trip through JSON, so that the header equals the one read from disk.
        loaded: dict[str, Any] = json.loads(json.dumps(header))
        return loaded

    def content_of(self, name: str, count: int) -> str:
        """The hash of `count` items of the validation or test set, or of those that it has if these are fewer."""
        data, root = data_of(self.recipe), self.assembly.root
        options = data_options(self.recipe, download=self.settings.download)
        where = data.test if name == "test" or data.validation is None else data.validation
        return items_hash(read_item_set(name, where, count, search_of(self.recipe).seed, options=options, root=root))

    def _hashed_sets(self) -> dict[str, Any]:
        """The hash of each set of items; except for the search set, also how its items are asked and scored."""
        sets, judged = self.sets, self.settings.judged
        found: dict[str, Any] = {"search": {"content": items_hash(sets.search)}}
        for one in (sets.validation, sets.test):
            if one is not None:
                counts = {"asked": judged or ITEMS[one.name], "items": len(one)}
                found[one.name] = {"task": one.task.name, **counts, **_asked(one)}
        return found | {f"objective {name}": _asked(items) for name, items in self.objectives.items()}


def plan_evolution(recipe: Recipe, root: Path, settings: EvolveSettings) -> Plan:
    """Open the models, select the items, name the genes. Raises UserError if something does not fit."""
    recipe = _overridden(recipe, settings)
    search = search_of(recipe)
    # Items first: missing or overlapping data is reported before any model is downloaded.
    sets = read_item_sets(
        recipe, root, count=search.items, seed=search.seed, judged=settings.judged, download=settings.download
    )
    refuse_unknown(search.objectives)
    objectives = objective_items(recipe, root, len(sets.search), download=settings.download, commits=sets.commits)
    assembly = assemble(recipe, root, download=settings.download)
    if (why := why_not_in_chat(recipe, root, assembly.owner.folder)) is not None:
        raise RecipeError(": ".join(why))
    recipe, told = settled(recipe, assembly, sets.search.task, settings.device)
    raced, asked_by = _race(recipe, settings) is not None, "--race" if settings.race else "search.race"
    if settings.keep_diverse:
        refuse_atlas(recipe, sets.search, raced_by=asked_by if raced else None)
    space = None
    if search.route is not None:
        space = data_flow(recipe, {name: depth_of(model) for name, model in assembly.sources.items()})
    genes = space.genes if space is not None else genes_of(recipe, assembly.layers)
    if raced:
        recipe = raced_recipe(recipe, len(genes), asked_by)
    plan = Plan(recipe, settings, assembly, genes, sets, search.trials, space, objectives, told)
    if settings.checkpoint:
        refuse_unbuildable(assembly)
    plan.searcher()  # so that errors from the searcher come before any work
    return plan


def _race(recipe: Recipe, settings: EvolveSettings) -> RaceSettings | None:
    """How candidates are raced; None: all are asked all search items."""
    if settings.race is None and search_of(recipe).race:
        return RaceSettings()
    return settings.race or None


def _asked(items: ItemSet) -> dict[str, Any]:
    task = items.task
    return {"content": items_hash(items), "generation": task.generation.content, "rules": dict(task.rules)}


def _overridden(recipe: Recipe, settings: EvolveSettings) -> Recipe:
    given = {"trials": settings.trials, "items": settings.items, "seed": settings.seed}
    update = {key: value for key, value in given.items() if value is not None}
    return recipe.model_copy(update={"search": search_of(recipe).model_copy(update=update)})
