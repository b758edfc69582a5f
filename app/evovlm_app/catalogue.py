"""The models and recipes that the operator offers, by name. A visitor chooses names, never paths.

Knows recipes, folders and studies; loads no weights and shows nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from evovlm.engines.chat import Placed
from evovlm.merging.assembly import assemble
from evovlm.models.chat_templates import stored_template, template_file
from evovlm.models.open_model import open_model, resolve_folder
from evovlm.recipe.layer_groups import group_names
from evovlm.recipe.pinning import models_of
from evovlm.recipe.schema import Recipe
from evovlm.recipe.shipped import means_recipe, named_recipe
from evovlm.recipe.yaml_file import moved, read_recipe
from evovlm.study import log as study_log
from evovlm.system.errors import CheckpointError, RecipeError, UserError
from evovlm.tasks import Generation, Options, Task, load_task, parse_split
from evovlm_app.limits import Refusal

Kind = Literal["vlm", "llm"]
TASK_OF: dict[Kind, str] = {"vlm": "zoo-vqa", "llm": "zoo-maths"}
ZOO_RECIPES = ("zoo-vlm", "zoo-llm")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Offer:
    """One model: a checkpoint folder, or, if `recipe` is set, a merge made in memory on the owner's checkpoint.

    `generation`: how it is asked; None: as the tab's task asks. `template`: the chat template that it is asked in if it
    has none of its own.
    """

    name: str
    kinds: frozenset[Kind]
    folder: Path
    recipe: Recipe | None = None
    generation: Generation | None = None
    template: str | None = None

    @property
    def key(self) -> str:
        """The cache key. It includes the recipe's digest, so that a new winner counts as a new model."""
        return self.name if self.recipe is None else f"{self.name} {self.recipe.digest()}"


@dataclass(frozen=True)
class MixableRecipe:
    """A recipe that visitors can change themselves; its model folders are relative to the working directory."""

    name: str
    recipe: Recipe
    folder: Path  # the owner's checkpoint

    @property
    def kind(self) -> Kind:
        """What it merges: "vlm" for the language tower of a VLM, "llm" for a language model."""
        return self.recipe.kind

    @cached_property
    def task(self) -> Task | None:
        """The recipe's own test data; None if it names none. Raises UserError for an unknown task or preset."""
        if self.recipe.data is None:
            return None
        return parse_split(self.recipe.data.test, Options(preset=self.recipe.data.preset), key="data.test")[0]

    @property
    def generation(self) -> Generation | None:
        """How its models are asked, as far as the recipe says."""
        return None if self.task is None else self.task.generation

    @cached_property
    def template(self) -> str | None:
        """The chat template of its merges."""
        if self.recipe.chat_template is not None:
            return Placed(self.recipe.chat_template, f"`chat_template` of the recipe {self.name}")
        stored = stored_template(self.folder)
        return None if stored is None else Placed(stored, template_file(str(self.folder)))

    def offer(self, name: str, folder: Path, recipe: Recipe | None = None) -> Offer:
        """One of its models: a source, or a merge by a recipe."""
        return Offer(name, frozenset({self.kind}), folder, recipe, self.generation, self.template)

    @cached_property
    def groups(self) -> list[str]:
        """The layer groups, in model order."""
        return group_names(self.recipe.groups, assemble(self.recipe, Path()).layers)


@dataclass(frozen=True)
class Offering:
    """Everything that the pages can show."""

    folders: tuple[Offer, ...]
    mixables: tuple[MixableRecipe, ...]
    studies: Path
    tasks: dict[Kind, Task] = field(default_factory=dict)

    def models(self, kind: Kind) -> dict[str, Offer]:
        """The models of one tab by name, in display order: checkpoint folders, then merges."""
        offers = [offer for offer in self.folders if kind in offer.kinds]
        for mixable in self.mixables:
            if mixable.kind != kind:
                continue
            name = "merged" if self._only(mixable) else f"merged {mixable.name}"
            offers.append(mixable.offer(name, mixable.folder, mixable.recipe))
            evolved = self.evolved(mixable)
            if evolved is not None:
                offers.append(mixable.offer(name.replace("merged", "evolved"), mixable.folder, evolved))
        return {offer.name: offer for offer in offers}

    def choose(self, kind: Kind, names: Sequence[str]) -> list[Offer]:
        """The offers with these names, without duplicates. Raises Refusal for an unknown name or an empty list."""
        offered = self.models(kind)
        unknown = [name for name in names if name not in offered]
        if unknown:
            raise Refusal("unknown_model", choices=", ".join(offered))
        if not names:
            raise Refusal("no_model")
        return [offered[name] for name in dict.fromkeys(names)]

    def mixable(self, name: str) -> MixableRecipe:
        """The recipe with this name. Raises Refusal, listing the choices, if there is none."""
        for mixable in self.mixables:
            if mixable.name == name:
                return mixable
        raise Refusal("unknown_recipe", choices=", ".join(k.name for k in self.mixables))

    def evolved(self, mixable: MixableRecipe) -> Recipe | None:
        """The winning recipe of the newest study of the same models, or None."""
        for study in reversed(self.study_names()):
            try:
                winner = moved(read_recipe(self.studies / study / study_log.BEST), self.studies / study, Path())
                same = _same_models(winner, mixable.recipe)
            except UserError as error:
                log.warning("a study is left out", extra={"facts": {"study": study, "error": str(error)}})
                continue
            except Exception as error:  # one damaged study must not keep the others, or the app, from being shown
                facts = {"study": study, "error": f"{type(error).__name__}: {error}"}
                log.warning("a study cannot be read", extra={"facts": facts})
                continue
            if same:
                return winner
        return None

    def study_names(self) -> list[str]:
        """The names of the studies, newest last."""
        if not self.studies.is_dir():
            return []
        headers = [path for path in self.studies.glob(f"*/{study_log.HEADER}") if not path.parent.name.startswith(".")]
        return [path.parent.name for path in sorted(headers, key=_changed)]

    def study(self, name: str) -> Path:
        """The folder of a study. Raises Refusal if there is no study with this name."""
        if name not in self.study_names():
            raise Refusal("unknown_study")
        return self.studies / name

    def _only(self, mixable: MixableRecipe) -> bool:
        return [other.kind for other in self.mixables].count(mixable.kind) == 1


def offer(named: Sequence[str], studies: Path, *, download: bool = False) -> Offering:
    """The offering for the `--models` of the command line: recipes (sources and merge) and checkpoint folders.

    Without any, the zoo is offered. Raises UserError, with the next step, if something cannot be read.
    """
    recipes = [name for name in named or ZOO_RECIPES if means_recipe(name)]
    folders = [name for name in named if not means_recipe(name)]
    mixables = tuple(_mixable(name, download=download) for name in recipes)
    offers: dict[str, Offer] = {}
    for mixable, name, folder in _sources(mixables):
        _add(offers, mixable.offer(name, folder))
    for name in folders:
        model = open_model(name, name, None, Path(), download=download)
        sees = "vision_config" in model.config
        kinds: frozenset[Kind] = frozenset(("vlm",) if sees else ("vlm", "llm"))
        _add(offers, Offer(model.folder.resolve().name, kinds, model.folder))
    return Offering(tuple(offers.values()), mixables, studies, {kind: _task(kind, mixables) for kind in TASK_OF})


def _mixable(name: str, *, download: bool) -> MixableRecipe:
    found = named_recipe(name)
    recipe = moved(found, found.root, Path())
    # Assembling downloads missing models (if allowed) and reports incompatible sources before the page opens.
    assembly = assemble(recipe, Path(), download=download)
    mixable = MixableRecipe(Path(name).stem, recipe, assembly.owner.folder)
    try:
        _ = mixable.task  # else its models would be asked as those of another task, without a word
    except UserError as error:
        raise RecipeError(f"{name}: {error}") from None
    return mixable


def _sources(mixables: Sequence[MixableRecipe]) -> Iterator[tuple[MixableRecipe, str, Path]]:
    """The sources of all recipes, as recipe, name and folder. Where recipes call other models alike, the recipe's name
    follows, as it does for merges: "vlm qwen3-vl-swallow"."""
    found = [
        (mixable, source.name, resolve_folder(source.model, source.revision, Path()))
        for mixable in mixables
        for source in mixable.recipe.sources
    ]
    for mixable, name, folder in found:
        shared = any(name == other and folder != place for _, other, place in found)
        yield mixable, f"{name} {mixable.name}" if shared else name, folder


def _add(offers: dict[str, Offer], new: Offer) -> None:
    """Add a model; one that is there already, such as a source of two recipes, is asked as the first says."""
    known = offers.setdefault(new.name, new)
    if known.folder != new.folder:
        raise CheckpointError(
            f"--models: two models are called {new.name!r} ({known.folder}, {new.folder}); rename one"
        )
    offers[new.name] = replace(known, kinds=known.kinds | new.kinds)


def _task(kind: Kind, mixables: Sequence[MixableRecipe]) -> Task:
    """The task of a tab's samples, whose prompts other models are asked in: the first recipe's data, or the zoo's."""
    for mixable in mixables:
        if mixable.kind == kind and mixable.task is not None:
            return mixable.task
    return load_task(TASK_OF[kind])


def _changed(path: Path) -> float:
    """When a file was changed; 0 if that cannot be told, as of a link to nowhere."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _same_models(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes merge the same models, however they name them: by an id of the hub or its commit, by a path.

    Raises CheckpointError if a model cannot be found.
    """
    if (one.kind, one.owner, one.source_names) != (other.kind, other.owner, other.source_names):
        return False
    ours, theirs = dict(models_of(one)), dict(models_of(other))
    return ours.keys() == theirs.keys() and all(
        model == theirs[key] or _folder(*model) == _folder(*theirs[key]) for key, model in ours.items()
    )


def _folder(model: str, revision: str | None) -> Path:
    return resolve_folder(model, revision, Path()).resolve()
