"""Lays out groups as one packed run of tokens: all prefixes, then the rest of each question.

Knows groups and slots; computes nothing. Packed tokens have no padding, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from evovlm.engines._grouping import Group, Question


@dataclass(frozen=True)
class Rest:
    """A question's own tokens in the chunk: all but the last, which the first decoding step reads."""

    slot: int
    part: int  # index of the part with its prefix
    start: int  # in the chunk
    length: int


@dataclass(frozen=True)
class Part:
    """A group's prefix in the chunk, and the slots of its questions."""

    start: int
    length: int
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Chunk:
    """Packed tokens: ids and positions int64 [tokens], and the parts and rests that they belong to."""

    ids: Tensor
    positions: Tensor
    places: Tensor | None  # where image features go, int64
    features: Tensor | None
    parts: tuple[Part, ...]
    rests: tuple[Rest, ...]  # without those of length 0; sorted by (prefix length, own length) to put equals together
    deep: Tensor | None = None  # what is added at `places` after each of the first layers: [layers, places, hidden]
    axes: Tensor | None = None  # positions in time, height and width [3, tokens]; None: `positions` in all three
    shifts: Mapping[int, int] = field(default_factory=dict)  # by slot, if not 0: see `Prompt.shift`

    @property
    def flops_attention(self) -> int:
        """Number of query-key pairs in causal attention, as a measure of its work."""
        own = sum(part.length * (part.length + 1) // 2 for part in self.parts)
        return own + sum(
            rest.length * self.parts[rest.part].length + rest.length * (rest.length + 1) // 2 for rest in self.rests
        )


class _Packed:
    """Collects the tokens of prefixes and rests, one piece after another."""

    def __init__(self) -> None:
        self.length = 0
        self.ids: list[Tensor] = []
        self.positions: list[Tensor] = []
        self.places: list[Tensor] = []
        self.features: list[Tensor] = []
        self.deep: list[Tensor] = []
        self.axes: list[Tensor | None] = []

    def add(self, ids: Tensor, start: int, piece: Group | Question) -> int:
        """Add a piece's tokens, the first at position `start` of its text; returns their place in the chunk."""
        first = self.length
        self.ids.append(ids)
        self.positions.append(torch.arange(start, start + len(ids)))
        self.axes.append(None if piece.axes is None else piece.axes[:, : len(ids)])
        if piece.features is not None and piece.places is not None:
            self.places.append(piece.places + first)
            self.features.append(piece.features)
            if piece.deep is not None:
                self.deep.append(piece.deep)
        self.length += len(ids)
        return first

    def all_axes(self, device: torch.device) -> Tensor | None:
        """Positions in all three directions, if any piece has its own."""
        if all(own is None for own in self.axes):
            return None
        pairs = zip(self.axes, self.positions, strict=True)
        return torch.cat([plain.expand(3, -1).to(device) if own is None else own for own, plain in pairs], dim=1)


def lay_out(groups: Sequence[Group], slots: Sequence[Sequence[int]]) -> Chunk:
    """Return the chunk for these groups; `slots`: the slots of each group's questions."""
    parts: list[Part] = []
    packed = _Packed()
    for group, taken in zip(groups, slots, strict=True):
        parts.append(Part(packed.add(group.ids, 0, group), len(group.ids), tuple(taken)))
    tails = [
        (parts[number].length, len(question.ids) - 1, number, slot, question)
        for number, (group, taken) in enumerate(zip(groups, slots, strict=True))
        for slot, question in zip(taken, group.questions, strict=True)
        if len(question.ids) > 1
    ]
    rests: list[Rest] = []
    for before, length, number, slot, question in sorted(tails, key=lambda tail: tail[:4]):
        rests.append(Rest(slot, number, packed.add(question.ids[:-1], before, question), length))
    device = packed.ids[0].device
    return Chunk(
        torch.cat(packed.ids),
        torch.cat(packed.positions).to(device),
        torch.cat(packed.places) if packed.places else None,
        torch.cat(packed.features) if packed.features else None,
        tuple(parts),
        tuple(rests),
        deep=torch.cat(packed.deep, dim=1) if packed.deep else None,
        axes=packed.all_axes(device),
        shifts={
            slot: question.shift
            for group, taken in zip(groups, slots, strict=True)
            for slot, question in zip(taken, group.questions, strict=True)
            if question.shift
        },
    )
