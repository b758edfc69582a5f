"""What a merge method is: a rule, its requirements, and its defaults. Knows no particular method."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from torch import Tensor

from evovlm.methods._result import Result
from evovlm.methods.operand import Operand
from evovlm.methods.options import SHARED, Drop, MergeOptions, OwnOptions, Rescale, Shared
from evovlm.system.errors import RecipeError

NAME = re.compile(r"[A-Za-z][\w-]{0,99}", re.ASCII)  # of a method: it stands in recipes, and begins names of files

# (base, operands in source order, options, result to write to, elements per chunk). The base is None if the method
# needs none. A rule writes float32 values, which must not depend on the chunk size.
Rule = Callable[[Tensor | None, Sequence[Operand], MergeOptions, Result, int], None]

# (base, sources, the method's own options) -> one task vector per source; see `prepared_method`.
Prepare = Callable[[Tensor, Sequence[Tensor], Any], Sequence[Tensor]]


@dataclass(frozen=True)
class Method:
    """One method: the rule that merges a tensor, and what recipes need to know about it.

    drop: which elements of a task vector are dropped (None: none, and densities are unused).
    elect: keep only terms that agree with the sign of the weighted sum (TIES, arXiv:2306.01708).
    normalize, rescale: the defaults. needs_base: whether it works on task vectors. may_use_base: it does if the recipe
    has a base, and on the sources themselves otherwise. weighted: whether the sources' weights are used.
    fewest, most: how many sources it takes; `most` is None for no limit.
    uses: the shared options that it reads. options: its own options; None if it has none.
    prepare: what it does to the task vectors before they are summed, whatever the weights (`prepared_method`).
    one_vector: whether that is the same vector for all sources.
    mergekit: for a method that mergekit has, its parameters there and the own options here that they are; else None.
    doc, source, cost: one line each, for `evovlm methods` and docs/methods.md: what it does, where it is from, how
    often it reads its inputs. plugin: the plugin that registered it; None for those of this package and of programs.
    """

    name: str
    rule: Rule
    drop: Drop | None = None
    elect: bool = False
    rescale: Rescale = "none"
    normalize: bool = False
    needs_base: bool = True
    may_use_base: bool = False
    weighted: bool = True
    fewest: int = 1
    most: int | None = None
    uses: tuple[Shared, ...] = ()
    options: type[OwnOptions] | None = None
    prepare: Prepare | None = None
    one_vector: bool = False
    mergekit: Mapping[str, str] | None = None
    doc: str = ""
    source: str = ""
    cost: str = ""
    plugin: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no recipe and no page could use, with ValueError: a method may be anybody's."""
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            raise ValueError(f"method {self.name!r}: the name has to be letters, digits, _ and -, such as `my_method`")
        if not (isinstance(self.uses, tuple) and set(self.uses) <= set(SHARED)):
            raise ValueError(f"method {self.name}: uses={self.uses!r} has to be a tuple of some of {list(SHARED)}")
        if self.options is not None and not (isinstance(self.options, type) and issubclass(self.options, OwnOptions)):
            raise ValueError(f"method {self.name}: options={self.options!r} has to be a class derived from OwnOptions")
        if self.drop is not None and self.drop not in get_args(Drop):
            raise ValueError(f"method {self.name}: drop={self.drop!r} has to be None or one of {list(get_args(Drop))}")
        if not (_is_count(self.fewest) and (self.most is None or (_is_count(self.most) and self.most >= self.fewest))):
            raise ValueError(
                f"method {self.name}: fewest={self.fewest!r}, most={self.most!r} have to be numbers of sources, at"
                " least 1, in that order; most=None is for no limit"
            )

    def own_options(self, given: Mapping[str, Any]) -> OwnOptions | None:
        """The method's own options with defaults filled in; None if it has none. Raises RecipeError for a mistake."""
        if self.options is None:
            if given:
                raise RecipeError(f"options: {self.name} has no options of its own, so remove {sorted(given)}")
            return None
        try:
            return self.options.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            key, names = ".".join(map(str, first["loc"])), sorted(self.options.model_fields)
            raise RecipeError(f"options.{key}: {first['msg']}; {self.name}'s own options are {names}") from None

    def reads_base(self, *, given: bool) -> bool:
        """Whether it reads the base, in a merge that has one (`given`) or not."""
        return self.needs_base or (self.may_use_base and given)

    def takes(self, sources: int) -> bool:
        """Whether it can merge this many sources."""
        return self.fewest <= sources and (self.most is None or sources <= self.most)

    @property
    def sources_in_words(self) -> str:
        """How many sources it takes, such as `exactly two sources`."""
        if self.most is None:
            return f"at least {_counted(self.fewest)}"
        if self.most == self.fewest:
            return f"exactly {_counted(self.fewest)}"
        return f"{self.fewest} to {self.most} sources"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _counted(sources: int) -> str:
    return f"{({1: 'one', 2: 'two'}).get(sources, sources)} source{'s' * (sources != 1)}"
