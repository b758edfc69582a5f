"""The protocol of runners, which run a tower for the scheduler.

A runner has slots that hold one text each; they are filled by chunks and advanced one token at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from evovlm.engines._chunk import Chunk
from evovlm.engines._grouping import Group


class Runner(Protocol):
    """Slots 0 to n - 1 are in use; the scheduler closes the gaps that finished rows leave."""

    @property
    def slots(self) -> int:
        """The number of rows there is room for."""

    def begin(self) -> None:
        """Forget all rows."""

    def room(self, groups: Sequence[Group]) -> bool:
        """Whether memory can hold these groups in addition to the rows in use."""

    def fill(self, hidden: Tensor, chunk: Chunk) -> None:
        """Prefill a chunk's embeddings [tokens, hidden] into its slots."""

    def step(self, tokens: Tensor) -> Tensor:
        """Return logits [rows, vocabulary] after the next token of the first rows, `tokens` int64 [rows]."""

    def close_gaps(self, moves: Sequence[tuple[int, int]], rows: int) -> None:
        """Move rows, each given as (from, to); afterwards the first `rows` slots are in use."""

    def read_bytes(self) -> int:
        """Bytes of keys and values that the next step has to read; what rows share counts once."""


class Size(NamedTuple):
    """The size of a pool of tokens."""

    rows: int
    own: int  # tokens of a row besides its shared prefix
    longest: int  # tokens of the longest prefix
    tokens: int  # in total
