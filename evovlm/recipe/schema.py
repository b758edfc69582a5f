"""The recipe: what is merged, how, and how parameters are searched. A frozen schema and its content hash.

Knows no files, tensors or models; `yaml_file` reads and writes recipes as YAML, `shipped` finds them by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from evovlm.methods.options import Rescale
from evovlm.recipe import limits
from evovlm.recipe._frozen import FOR_DIGEST, LATER, Frozen
from evovlm.recipe._own_options import without_defaults
from evovlm.recipe.layer_groups import LAYER_RANGE
from evovlm.recipe.route import Route, refuse_long, refuse_scales
from evovlm.recipe.search_settings import Finite, Search, Seed
from evovlm.system.errors import RecipeError

Vocab = Literal["match", "shared", "tower", "position", "same"]
Dtype = Literal["bfloat16", "float16", "float32"]
Revision = Annotated[str, Field(min_length=1)]  # of a repository on the hub: a branch, a tag or a commit
Density = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
# A parameter is one number for the whole model, or one number per layer group.
Weights = Finite | dict[str, Finite]
Densities = Density | dict[str, Density]
# "whole": one group. N: embeddings, N blocks of layers, head. A mapping: name -> globs on tensor names.
Patterns = Annotated[tuple[str, ...], Field(max_length=limits.MOST_PATTERNS)]
GroupSpec = (
    Literal["whole"]
    | Annotated[int, Field(ge=1, le=limits.MOST_LAYERS)]
    | Annotated[dict[str, Patterns], Field(max_length=limits.MOST_GROUPS)]
)
Model = Annotated[str, Field(min_length=1)]

WHOLE: Literal["whole"] = "whole"
# The validation context for files written by users: there, an empty route is a mistake.
FROM_FILE = "from a file"


class Base(Frozen):
    """The common ancestor of the sources: task vectors are the differences from it."""

    model: Model
    revision: Revision | None = None  # give a full commit hash for an exact rebuild


class Source(Frozen):
    """One model to merge, with the name that parameters and masks use."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: Model
    revision: Revision | None = None
    # What digests have in place of `model`. Set for a model that a study built in its own folder, which may be moved.
    identity: Annotated[str | None, LATER] = None


class SourceParameters(Frozen):
    """Weight and density of one source, for the whole model or by layer group."""

    weight: Weights = 1.0
    density: Densities = 1.0


class Options(Frozen):
    """A method's options; None uses the method's own default (PAPER: mergekit's conventions).

    Further keys are options that only the recipe's method has (`Method.options`); the recipe checks them.
    """

    model_config = ConfigDict(extra="allow")

    normalize: bool | None = None
    rescale: Rescale | None = None
    lambda_: Finite = Field(default=1.0, alias="lambda")
    epsilon: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01

    @property
    def own(self) -> Mapping[str, Any]:
        """The options that only the recipe's method has, where they differ from their defaults."""
        return self.model_extra or {}

    def with_own(self, own: Mapping[str, Any]) -> Options:
        """The same options with others that only the method has."""
        shared = {name: getattr(self, name) for name in self.model_fields_set & type(self).model_fields.keys()}
        return type(self).model_construct(**shared, **own)


class Slice(Frozen):
    """For `passthrough`: layers start to stop (exclusive) of one source, stacked in order; [0, 0] adds no layer."""

    source: str
    layers: tuple[
        Annotated[int, Field(ge=0, le=limits.MOST_LAYERS)], Annotated[int, Field(ge=0, le=limits.MOST_LAYERS)]
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.layers[0] > self.layers[1]:
            raise ValueError(f"layers {list(self.layers)} ends before it starts; give [start, stop]")
        return self


class Data(Frozen):
    """The items for the search (`search`), for choosing the winner (`validation`), and for the final `test`.

    Each is TASK:SPLIT, or TASK@PATH:SPLIT for data in a local file or folder. `preset`: how models are prompted, by
    names or files that are joined by `+`. `whole_pictures`: draw pictures, each with all its questions, because
    questions that share a picture are answered faster. `revisions`: of data sets that come from the hub, by
    repository; a full commit hash gives the same items again.
    """

    search: str
    validation: str | None = None
    test: str
    preset: str | None = None
    whole_pictures: Annotated[bool, LATER] = False
    revisions: Annotated[dict[str, Revision], LATER] = Field(default={})

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = [name for name in (self.search, self.validation, self.test) if name is not None]
        if len(set(named)) != len(named):
            raise ValueError(
                "search, validation and test must be different splits; a score on items used in the search is biased"
            )
        return self


class Stage(Frozen):
    """A second stage in data-flow space, over the sources and the first stage's winners.

    These are called `ps1`, `ps2`, ..., leaving out names that sources have.
    """

    winners: int = Field(default=1, ge=1, le=limits.MOST_WINNERS)
    keep: tuple[str, ...] | None = None  # sources that stay in the pool besides the owner; None: all
    search: Search


class Recipe(Frozen):
    """One merge, and optionally its search: immutable, validated on creation, and compared by content.

    The fields are the keys of the recipe file. Raises pydantic's ValidationError (a ValueError) for an invalid value, a
    misspelt field, or a name that no source has.

    The method is that of arXiv:2403.13187, sections 3.1 (parameter space) and 3.2 (data-flow space).

    >>> from evovlm import Recipe
    >>> recipe = Recipe.read("zoo-vlm")
    >>> recipe.method, recipe.source_names
    ('dare_ties', ('vlm', 'ja'))
    >>> half = recipe.weighted({"vlm": 1.0, "ja": 0.5})
    >>> half.of("ja").weight, half == recipe
    (0.5, False)
    """

    kind: Literal["llm", "vlm"]
    base: Base | None = None
    sources: tuple[Source, ...] = Field(min_length=1, max_length=limits.MOST_SOURCES)
    owner: str | None = None
    method: str
    options: Options = Options()
    groups: GroupSpec = WHOLE
    parameters: dict[str, SourceParameters] = Field(default={})
    slices: tuple[Slice, ...] = ()
    route: Annotated[Route, LATER] = ()
    vocab: Vocab = "match"
    vision: Annotated[Literal["owner", "merged"], LATER] = "owner"  # of a vlm: whose vision tower and projector
    chat_template: Annotated[str | None, LATER] = None  # Jinja text in place of the owner's template
    dtype: Dtype = "bfloat16"
    seed: Seed = 0
    search: Search | None = None
    then: Stage | None = None
    data: Data | None = None

    @field_validator("sources")
    @classmethod
    def _unique(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must be unique; {twice} are used twice")
        return sources

    @field_validator("options")
    @classmethod
    def _own_options(cls, options: Options, info: ValidationInfo) -> Options:
        if not options.own or "method" not in info.data:
            return options
        return options.with_own(without_defaults(info.data["method"], options.own))

    @field_validator("route")
    @classmethod
    def _has_slots(cls, route: Route, info: ValidationInfo) -> Route:
        if not route and info.context == FROM_FILE:
            raise ValueError("the route is empty: step 0 is missing; give steps, or leave `route` out")
        return refuse_scales(refuse_long(route))

    @field_validator("groups", mode="before")
    @classmethod
    def _is_a_form(cls, groups: Any) -> Any:
        number = isinstance(groups, int) and not isinstance(groups, bool) and 1 <= groups <= limits.MOST_LAYERS
        if not (number or groups == WHOLE or isinstance(groups, dict)):
            given = str(groups) if isinstance(groups, int | float | str) else type(groups).__name__
            raise ValueError(
                f"must be `whole`, a number of blocks of layers from 1 to {limits.MOST_LAYERS}, or a mapping of names"
                f" to lists of globs, not {given[:60]}"
            )
        return groups

    @field_validator("groups")
    @classmethod
    def _ranges(cls, groups: GroupSpec) -> GroupSpec:
        for patterns in groups.values() if isinstance(groups, dict) else ():
            for pattern in patterns:
                span = LAYER_RANGE.match(pattern)
                if span and any(len(digits) > 9 or int(digits) >= limits.MOST_LAYERS for digits in span.groups()):
                    raise ValueError(
                        f"{pattern!r}: no model has so many layers; at most {limits.MOST_LAYERS} are merged"
                    )
        return groups

    @field_validator("slices")
    @classmethod
    def _stack(cls, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        depth = sum(part.layers[1] - part.layers[0] for part in slices)
        if depth > limits.MOST_LAYERS:
            raise ValueError(f"the stack has {depth} layers; give at most {limits.MOST_LAYERS}")
        if slices and depth == 0:
            raise ValueError("the stack has no layers; give a slice [start, stop] with start < stop")
        return slices

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        names = self.source_names
        if self.kind == "vlm" and self.owner is None:
            raise ValueError(f"a vlm recipe needs `owner`, the source of the vision tower; one of {list(names)}")
        if self.vision == "merged":
            given = [name for name in ("slices", "route", "search", "then") if getattr(self, name)]
            if self.kind != "vlm" or given:
                why = f"there is `{given[0]}`" if given else f"this is of kind `{self.kind}`"
                raise ValueError(f"vision: only plain merges of kind `vlm` merge the vision part, and {why}; remove it")
        for key, used in (
            ("owner", [] if self.owner is None else [self.owner]),
            ("parameters", list(self.parameters)),
            ("slices", [part.source for part in self.slices]),
            ("then.keep", [] if self.then is None or self.then.keep is None else list(self.then.keep)),
        ):
            for name in used:
                if name not in names:
                    raise ValueError(f"{key}: unknown source {name!r}; choose from {list(names)}")
        for index, step in enumerate(self.route):
            if step.source not in names:
                raise ValueError(f"route: step {index}: unknown source {step.source!r}; choose from {list(names)}")
        return self

    @classmethod
    def read(cls, named: str | Path) -> Recipe:
        """Read a recipe: a YAML file (evovlm's or mergekit's), or the name of one that ships with evovlm.

        `evovlm recipe list` prints the names. Raises RecipeError if there is no such file or name (the message lists
        the names), or if the file has mistakes (the message gives line and key of each).
        """
        # Imported on call, because the reader imports the schema and not the other way round.
        found: Recipe = import_module("evovlm.recipe.shipped").named_recipe(named)
        return found

    @cached_property
    def root(self) -> Path:
        """The folder that relative model and data paths start from: the file's folder, else the working directory.

        It is not part of the content: equality, `digest()` and the YAML ignore it.
        """
        return Path()

    def counted_from(self, root: Path) -> Recipe:
        """The same recipe with another `root`."""
        return self.model_copy(update={"root": root})

    def by(self, method: str) -> Recipe:
        """The recipe with another method; options that only its own method has are removed."""
        if method == self.method:
            return self
        options = self.options.with_own({})
        if options.rescale == "per_element":
            options = options.model_copy(update={"rescale": None})
        return self.model_copy(update={"method": method, "options": options})

    def with_options(self, values: Mapping[str, bool | float | str]) -> Recipe:
        """The recipe with some options changed, by their keys in files, such as `lambda`.

        Raises ValidationError for an option that the method does not have, or a value that it does not take.
        """
        given = self.options.model_dump(by_alias=True, exclude_unset=True) | dict(values)
        options = Options.model_validate(given)
        own = without_defaults(self.method, options.own) if options.own else {}
        return self.model_copy(update={"options": options.with_own(own)})

    def weighted(self, weights: Mapping[str, float], *, density: float = 1.0) -> Recipe:
        """The recipe with one weight (and one density, 0 to 1) per source, for all layers.

        Sources that are not named keep their parameters. Raises RecipeError for a name that no source has, and
        ValidationError for a value out of range.
        """
        unknown = [name for name in weights if name not in self.source_names]
        if unknown:
            raise RecipeError(f"weights: unknown source {unknown[0]!r}; choose from {list(self.source_names)}")
        given = {name: SourceParameters(weight=weight, density=density) for name, weight in weights.items()}
        return self.model_copy(update={"parameters": self.parameters | given})

    @property
    def timed(self) -> bool:
        """Whether the search measures latency, so that answers must not be cached or run alongside other work."""
        return self.search is not None and "latency" in self.search.objectives

    @property
    def source_names(self) -> tuple[str, ...]:
        """The sources' names, in the order in which the merge adds their terms."""
        return tuple(source.name for source in self.sources)

    @property
    def base_label(self) -> str:
        """The base's label beside the sources' names: `base`, or `the base` if a source is called `base`.

        No source name has a space, so labels are unique, and a source may have any name.
        """
        return "the base" if "base" in self.source_names else "base"

    def of(self, source: str) -> SourceParameters:
        """The parameters of one source, or the defaults if the recipe gives none."""
        return self.parameters.get(source, SourceParameters())

    def digest(self) -> str:
        """A content hash of what defines the merged weights: 32 hexadecimal digits.

        Search and data are excluded, so a winner found twice is the same merge; so are keys marked LATER that have
        their default.
        """
        content = self.model_dump(mode="json", by_alias=True, exclude={"search", "then", "data"}, context=FOR_DIGEST)
        for source in content["sources"]:
            if "identity" in source:
                source["model"] = source.pop("identity")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def value_at(parameter: float | dict[str, float], group: str, default: float) -> float:
    """A parameter's value in one layer group, or the default for a group that the mapping omits."""
    return float(parameter.get(group, default) if isinstance(parameter, dict) else parameter)
