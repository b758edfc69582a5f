"""The recipe: what is merged, how, and how the how is searched. A frozen schema and its content hash.

Knows no files, tensors or models; `yaml_file` reads and writes it as YAML, `shipped` finds it by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from evovlm.methods.method import Rescale
from evovlm.recipe._frozen import FOR_DIGEST, LATER, Frozen
from evovlm.recipe.route import Route, refuse_long
from evovlm.system.errors import RecipeError

Vocab = Literal["match", "shared", "tower", "position"]
Dtype = Literal["bfloat16", "float16", "float32"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Density = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
# A parameter is one number for the whole model, or a number a layer group.
Weights = Finite | dict[str, Finite]
Densities = Density | dict[str, Density]
# "whole": one group. N: embeddings, N blocks of layers, head. A mapping: name -> globs on tensor names.
GroupSpec = Literal["whole"] | Annotated[int, Field(ge=1)] | dict[str, tuple[str, ...]]

WHOLE: Literal["whole"] = "whole"
# The context of a validation that reads what a person wrote: there, an empty route is a mistake.
FROM_FILE = "from a file"


class Base(Frozen):
    """The common ancestor that task vectors are measured from."""

    model: str
    revision: str | None = None  # a full commit rebuilds exactly


class Source(Frozen):
    """One model that takes part in the merge, under the name that parameters and masks use."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: str
    revision: str | None = None


class SourceParameters(Frozen):
    """Weight and density of one source, for the whole model or by layer group."""

    weight: Weights = 1.0
    density: Densities = 1.0


class Options(Frozen):
    """A method's options; None takes the method's own default (PAPER: mergekit's conventions)."""

    normalize: bool | None = None
    rescale: Rescale | None = None
    lambda_: Finite = Field(default=1.0, alias="lambda")
    epsilon: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01


class Slice(Frozen):
    """For `passthrough`: layers start to stop (exclusive) of one source, stacked in order."""

    source: str
    layers: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.layers[0] >= self.layers[1]:
            raise ValueError(f"layers {list(self.layers)} is empty; give [start, stop] with start < stop")
        return self


class Bounds(Frozen):
    """The range that a gene of the unit interval is mapped onto, linearly."""

    low: Finite = 0.0
    high: Finite = 1.0

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return {"low": value[0], "high": value[1]}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"bounds [{self.low}, {self.high}] are empty; give [low, high] with low < high")
        return self


class Prefix(Frozen):
    """The first layers of a good source, with which every route begins."""

    source: str
    layers: int = Field(ge=1)


class RouteSpace(Frozen):
    """The data-flow space: which routes a search may find. The defaults are the paper's (arXiv:2403.13187).

    `repeats`: how often each layer may come up (r). `scales`: a gene for each transition (`matrix`), a small network
    W_ij = pi_theta(i, j, t) with evolved weights (`network`), or none. `scale`: the range of a scale. `prefix`: the
    route's fixed beginning; layers below its end are then left out of the rest. `ordered`: depth never falls.
    """

    repeats: int = Field(default=3, ge=1)
    scales: Literal["matrix", "network", "none"] = "matrix"
    scale: Bounds = Bounds(low=0.5, high=1.5)
    hidden: int = Field(default=8, ge=1)  # width of the network
    prefix: Prefix | None = None
    ordered: bool = False


class Fidelity(Frozen):
    """How candidates are asked at first, with less effort; the better of a generation are asked again in full.

    `base_tile`: a picture whole, without its tiles (LLaVA-NeXT). `beams`, `new_tokens`: at most so many. `promote`:
    the share of a generation that is asked in full. In the first generation and each `audit`-th all are, so that it is
    known how well the cheap answers rank.
    """

    base_tile: bool = False
    beams: int | None = Field(default=None, ge=1)
    new_tokens: int | None = Field(default=None, ge=1)
    promote: float = Field(default=0.5, gt=0.0, le=1.0)
    audit: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _saves(self) -> Self:
        if not self.base_tile and self.beams is None and self.new_tokens is None:
            raise ValueError("nothing is cheaper; give `base_tile: true`, `beams` or `new_tokens`")
        return self


class Search(Frozen):
    """How the recipe's parameters are searched. The defaults are the paper's (arXiv:2403.13187)."""

    algorithm: str = "cmaes"
    trials: int = Field(default=1000, ge=1)
    population: int | None = Field(default=None, ge=2)  # None: 4 + floor(3 ln n)
    sigma: float = Field(default=1 / 6, gt=0.0, le=1.0)  # in the unit interval
    start: float = Field(default=0.5, ge=0.0, le=1.0)
    weight: Bounds | None = Bounds()  # None: weights are not searched
    density: Bounds | None = Bounds(low=0.05, high=1.0)  # None: densities are not searched
    items: int | None = Field(default=None, ge=1)  # None: all that the search split has
    batch: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0)
    route: RouteSpace | None = None  # the data-flow space is searched instead of weights and densities
    switch: int | None = Field(default=None, ge=1)  # two_stage: trials before it turns to scales; None: half
    objectives: tuple[str, ...] = ()  # beside the score: `layers`, `latency`, or TASK:SPLIT
    fidelity: Annotated[Fidelity | None, LATER] = None  # candidates are asked with less effort first


class Data(Frozen):
    """Which items a search may see, which choose the winner, and which it is judged on.

    TASK:SPLIT, or TASK@PATH:SPLIT where the data lie in a local file or folder; `preset` says how models are asked.
    """

    search: str
    validation: str | None = None
    test: str
    preset: str | None = None

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = [name for name in (self.search, self.validation, self.test) if name is not None]
        if len(set(named)) != len(named):
            raise ValueError(
                "search, validation and test must be different splits: a search on its test set proves nothing"
            )
        return self


class Stage(Frozen):
    """A second stage in data-flow space, among the sources and the first stage's winners (`ps1`, `ps2`, ...)."""

    winners: int = Field(default=1, ge=1)
    keep: tuple[str, ...] | None = None  # which sources stay in the pool; None: all that are not left blind
    search: Search


class Recipe(Frozen):
    """One merge, and optionally its search: frozen, checked when it is made, and compared by content.

    The fields are the keys of the recipe file. Raises pydantic's ValidationError (a ValueError) for a value that does
    not fit, a misspelt field, and a name that no source has.

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
    sources: tuple[Source, ...] = Field(min_length=1)
    owner: str | None = None
    method: str
    options: Options = Options()
    groups: GroupSpec = WHOLE
    parameters: dict[str, SourceParameters] = Field(default={})
    slices: tuple[Slice, ...] = ()
    route: Annotated[Route, LATER] = ()
    vocab: Vocab = "match"
    dtype: Dtype = "bfloat16"
    seed: int = Field(default=0, ge=0)
    search: Search | None = None
    then: Stage | None = None
    data: Data | None = None

    @field_validator("sources")
    @classmethod
    def _unique(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must differ; {twice} stand twice")
        return sources

    @field_validator("route")
    @classmethod
    def _has_slots(cls, route: Route, info: ValidationInfo) -> Route:
        if not route and info.context == FROM_FILE:
            raise ValueError("the route is empty: step 0 is missing; give steps, or leave `route` out")
        return refuse_long(route)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        names = self.source_names
        if self.kind == "vlm" and self.owner is None:
            raise ValueError(f"a vlm recipe needs `owner`, the source that the eyes come from; one of {list(names)}")
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
        """Read a recipe: a YAML file (ours or mergekit's), or one that ships with evovlm, by its name.

        `evovlm recipe list` prints the names. Raises RecipeError for what is not there, with the names, and for every
        mistake in the file, with its line and key.
        """
        # Looked up when it is called, because the reader knows the schema and not the other way round.
        found: Recipe = import_module("evovlm.recipe.shipped").named_recipe(named)
        return found

    @cached_property
    def root(self) -> Path:
        """The folder that relative model and data folders count from: the file's own, else the working directory.

        It is no part of the content: equality, `digest()` and the YAML leave it out.
        """
        return Path()

    def counted_from(self, root: Path) -> Recipe:
        """The same recipe with another `root`."""
        return self.model_copy(update={"root": root})

    def weighted(self, weights: Mapping[str, float], *, density: float = 1.0) -> Recipe:
        """The recipe with one weight (and one density, 0 to 1) per source, for all layers.

        A source that is left out keeps its parameters. Raises RecipeError for a name that no source has, and
        ValidationError for a value out of range.
        """
        unknown = [name for name in weights if name not in self.source_names]
        if unknown:
            raise RecipeError(f"weights: unknown source {unknown[0]!r}; choose from {list(self.source_names)}")
        given = {name: SourceParameters(weight=weight, density=density) for name, weight in weights.items()}
        return self.model_copy(update={"parameters": self.parameters | given})

    @property
    def timed(self) -> bool:
        """Whether the search asks how long answers take, so that none may be remembered or made beside other work."""
        return self.search is not None and "latency" in self.search.objectives

    @property
    def source_names(self) -> tuple[str, ...]:
        """The sources' names, in the order in which their terms are added."""
        return tuple(source.name for source in self.sources)

    def of(self, source: str) -> SourceParameters:
        """The parameters of one source, the defaults where the recipe gives none."""
        return self.parameters.get(source, SourceParameters())

    def digest(self) -> str:
        """A content hash of what defines the merged weights: 32 hexadecimal digits.

        Search and data do not enter it: a winner found twice is the same merge. Nor do keys marked LATER, where they
        are at their default.
        """
        content = self.model_dump(mode="json", by_alias=True, exclude={"search", "then", "data"}, context=FOR_DIGEST)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def value_at(parameter: float | dict[str, float], group: str, default: float) -> float:
    """A parameter's value in one layer group; a group that the mapping leaves out takes the default."""
    if isinstance(parameter, dict):
        return float(parameter.get(group, default))
    return float(parameter)


def split_where(where: str) -> tuple[str, str | None, str]:
    """Name, path and split of `TASK:SPLIT` or `TASK@PATH:SPLIT`; a path may hold colons."""
    named, _, split = where.rpartition(":") if ":" in where else (where, "", "")
    name, _, path = named.partition("@")
    return name, path or None, split
