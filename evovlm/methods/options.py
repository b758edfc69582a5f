"""The options of merge methods. Knows no tensors, so that a recipe can be read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict

Drop = Literal["random", "magnitude", "della", "breadcrumbs"]
Rescale = Literal["l1", "inverse", "per_element", "none"]
Shared = Literal["normalize", "rescale", "lambda", "epsilon", "gamma"]

# The options that all methods share, by their keys in recipes; `Method.uses` says which of them a method reads.
SHARED: tuple[Shared, ...] = ("normalize", "rescale", "lambda", "epsilon", "gamma")

# Names that no option of one method alone may have: in recipes they mean something else.
TAKEN = (*SHARED, "lambda_", "weight", "density")


class OwnOptions(BaseModel):
    """The base class for options of one method alone. In recipes they stand under `options`, beside the shared ones.

    Each field is a flag, a number, a text or a choice (`Literal`), with a default and a description; bounds are those
    of pydantic's `Field`. Values are read strictly: a flag is no number.

    >>> from pydantic import Field
    >>> class Turning(OwnOptions):
    ...     flatten: bool = Field(default=True, description="turn the whole tensor as one vector, not row by row")
    ...     share: float = Field(default=0.5, ge=0.0, le=1.0, description="how far to turn")
    >>> Turning.model_validate({"flatten": False})
    Turning(flatten=False, share=0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a field that recipes could not hold or that no page could describe, with TypeError."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if name in TAKEN:
                raise TypeError(f"{cls.__name__}.{name}: recipes have another setting of that name; choose another")
            if field.is_required() or not field.description:
                raise TypeError(f"{cls.__name__}.{name}: give it a default and a description")
            if field.annotation not in (bool, int, float, str) and get_origin(field.annotation) is not Literal:
                raise TypeError(f"{cls.__name__}.{name}: is {field.annotation}; use bool, int, float, str or Literal")


@dataclass(frozen=True)
class MergeOptions:
    """A method's options with the defaults filled in.

    normalize: divide by the sum of the weights (with sign election, of the terms kept; a sum of 0 counts as 1).
    rescale: the factor that compensates for dropped elements. l1: |delta|_1 / |delta x mask|_1; inverse: 1 / density;
    per_element: 1 / each element's own keep-probability, which only della has; none: 1. lambda_: factor of the merged
    task vector. epsilon: half the spread of della's keep-probabilities.
    gamma: the share of largest elements that breadcrumbs drops. own: the method's own options, an instance of the
    class that its row names; None if it has none. averaged: the vectors of a method that prepares them are the task
    vectors divided by their number; set for tensors that its option `exclude` names.
    """

    normalize: bool = False
    rescale: Rescale = "none"
    lambda_: float = 1.0
    epsilon: float = 0.15
    gamma: float = 0.01
    own: Any = None
    averaged: bool = False
