"""How a recipe's parameters or routes are searched: the keys below `search`. A frozen schema.

Knows no recipes, searchers or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from evovlm.recipe import limits
from evovlm.recipe._frozen import LATER, Frozen
from evovlm.system.plain_text import abridged

Seed = Annotated[int, Field(ge=0, le=limits.MOST_SEED)]
Finite = Annotated[float, Field(ge=-limits.MOST_WEIGHT, le=limits.MOST_WEIGHT, allow_inf_nan=False)]


class Bounds(Frozen):
    """The range that a gene in the unit interval is mapped to, linearly. Accepts `[low, high]` too; low < high."""

    low: Finite = 0.0
    high: Finite = 1.0
    shape: ClassVar[str] = "give two numbers, [low, high]"

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
    """Fixed first layers: every route starts with the first `layers` layers of `source`."""

    source: str
    layers: int = Field(ge=1, le=limits.MOST_LAYERS)


class RouteSpace(Frozen):
    """The data-flow space: which routes a search can find. The defaults are the paper's (arXiv:2403.13187).

    `repeats`: how often each layer may occur (r). `scales`: one gene per transition (`matrix`), a small network
    W_ij = pi_theta(i, j, t) with evolved weights (`network`), or `none`. `scale`: the range of a scale. `prefix`: the
    route's fixed start; the rest then uses only layers from its end on. `ordered`: depth never decreases.
    """

    repeats: int = Field(default=3, ge=1, le=limits.MOST_REPEATS)
    scales: Literal["matrix", "network", "none"] = "matrix"
    scale: Bounds = Bounds(low=0.5, high=1.5)
    hidden: int = Field(default=8, ge=1, le=limits.MOST_HIDDEN)  # width of the network
    prefix: Prefix | None = None
    ordered: bool = False


# What `fidelity: auto` is short for. In a race the candidates that are promoted are asked about every picture of the
# race: half of a generation would cost as much as the race saves.
AUTO_FIDELITY: Mapping[str, Any] = {"auto": True, "promote": 0.25}


class Fidelity(Frozen):
    """A cheap first evaluation of candidates; the better ones of a generation are then evaluated in full.

    `base_tile`: use the whole picture without its tiles (LLaVA-NeXT). `eight_bit`: matrix products in 8-bit floats.
    `beams`, `new_tokens`: upper limits. `promote`: the share of a generation that is evaluated in full. In the first
    and every `audit`-th generation all candidates are, to measure how well the cheap evaluation ranks them. `auto`: the
    cheap evaluation is used only as long as these audits say that it ranks well enough; with none of the four settings
    above, the plan of the search chooses them. Accepts `auto` too, see AUTO_FIDELITY.
    """

    base_tile: bool = False
    beams: int | None = Field(default=None, ge=1, le=limits.MOST_BEAMS)
    new_tokens: int | None = Field(default=None, ge=1, le=limits.MOST_NEW_TOKENS)
    promote: float = Field(default=0.5, gt=0.0, le=1.0)
    audit: int = Field(default=10, ge=1, le=limits.MOST_TRIALS)
    eight_bit: Annotated[bool, LATER] = False
    auto: Annotated[bool, LATER] = False

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value != "auto":
                raise ValueError(
                    f"{abridged(value)!r} is not known; give `auto`, or settings such as `{{base_tile: true}}`"
                )
            return dict(AUTO_FIDELITY)
        return value

    @model_validator(mode="after")
    def _saves(self) -> Self:
        if not self.auto and not self.cheaper:
            raise ValueError(
                "nothing makes it cheaper; give `base_tile: true`, `eight_bit: true`, `beams` or `new_tokens`"
            )
        return self

    @property
    def cheaper(self) -> bool:
        """Whether a setting makes answers cheaper; only those with `auto` may leave that to the plan."""
        return self.base_tile or self.eight_bit or self.beams is not None or self.new_tokens is not None


class Search(Frozen):
    """How the recipe's parameters are searched. The defaults are the paper's (arXiv:2403.13187)."""

    algorithm: str = "cmaes"
    trials: int = Field(default=1000, ge=1, le=limits.MOST_TRIALS)
    population: int | None = Field(default=None, ge=2, le=limits.MOST_POPULATION)  # None: 4 + floor(3 ln n)
    sigma: float = Field(default=1 / 6, gt=0.0, le=1.0)  # in units of the unit interval
    start: float = Field(default=0.5, ge=0.0, le=1.0)
    weight: Bounds | None = Bounds()  # None: weights are not searched
    density: Bounds | None = Bounds(low=0.05, high=1.0)  # None: densities are not searched
    items: int | None = Field(default=None, ge=1, le=limits.MOST_ITEMS)  # None: all items of the search split
    batch: Annotated[int, Field(ge=1, le=limits.MOST_BATCH)] | Literal["auto"] = 128  # auto: by free memory
    seed: Seed = 0
    route: RouteSpace | None = None  # if given, search the data-flow space instead of weights and densities
    switch: int | None = Field(
        default=None, ge=1, le=limits.MOST_TRIALS
    )  # two_stage: trials before it searches scales; None: half
    # In addition to the score: `layers`, `latency`, or TASK:SPLIT.
    objectives: tuple[str, ...] = Field(default=(), max_length=limits.MOST_OBJECTIVES)
    fidelity: Annotated[Fidelity | None, LATER] = None  # if given, evaluate candidates cheaply first
    # Numbers among the method's options that are searched too, for the whole merge: `{lambda: [0.5, 1.5]}`.
    options: Annotated[dict[str, Bounds], LATER] = Field(default={}, max_length=limits.MOST_OPTIONS)
    race: Annotated[bool, LATER] = False  # drop a candidate as soon as a test on few items shows that it is worse

    @field_validator("density")
    @classmethod
    def _shares(cls, density: Bounds | None) -> Bounds | None:
        if density is not None and not 0 <= density.low < density.high <= 1:
            raise ValueError(
                f"bounds [{density.low}, {density.high}] leave 0 to 1; a density is the share that is kept"
            )
        return density

    @model_validator(mode="after")
    def _has_options(self) -> Self:
        if self.options and self.route is not None:
            raise ValueError("options: a search for routes varies no options; remove them, or `route`")
        return self
