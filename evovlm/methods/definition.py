"""What a merge method is: a rule, its requirements, and its defaults. Knows no particular method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from evovlm.methods._result import Result
from evovlm.methods.operand import Operand
from evovlm.methods.options import Drop, MergeOptions, Rescale

# (base, operands in source order, options, result to write to, elements per chunk). The base is None if the method
# needs none. A rule writes float32 values, which must not depend on the chunk size.
Rule = Callable[[Tensor | None, Sequence[Operand], MergeOptions, Result, int], None]


@dataclass(frozen=True)
class Method:
    """One method: the rule that merges a tensor, and what recipes need to know about it.

    drop: which elements of a task vector are dropped (None: none, and densities are unused).
    elect: keep only terms that agree with the sign of the weighted sum (TIES, arXiv:2306.01708).
    normalize, rescale: the defaults. needs_base: whether it works on task vectors.
    fewest, most: how many sources it takes; `most` is None for no limit.
    """

    name: str
    rule: Rule
    drop: Drop | None = None
    elect: bool = False
    rescale: Rescale = "none"
    normalize: bool = False
    needs_base: bool = True
    fewest: int = 1
    most: int | None = None

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


def _counted(sources: int) -> str:
    return f"{({1: 'one', 2: 'two'}).get(sources, sources)} source{'s' * (sources != 1)}"
