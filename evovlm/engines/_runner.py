"""What runs a tower for the scheduler: slots that hold a text each, filled by chunks and moved on a token at a time."""

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
        """How many rows there is room for."""

    def begin(self) -> None:
        """Forget all rows."""

    def room(self, groups: Sequence[Group]) -> bool:
        """Whether memory can hold these groups beside the rows in use."""

    def fill(self, hidden: Tensor, chunk: Chunk) -> None:
        """Read a chunk's embeddings [tokens, hidden] into its slots."""

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after the next token of the first rows: int64 [rows]."""

    def close_gaps(self, moves: Sequence[tuple[int, int]], rows: int) -> None:
        """Move rows (from, to); from then on the first `rows` slots are in use."""

    def read_bytes(self) -> int:
        """Bytes of keys and values that the next step has to read, what rows share counted once."""


class Size(NamedTuple):
    """How large a pool of tokens is to be."""

    rows: int
    own: int  # tokens of a row beside its beginning
    longest: int  # tokens of the longest beginning
    tokens: int  # in all
