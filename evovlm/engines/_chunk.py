"""Lays out groups as one packed run of tokens: all prefixes, then the rest of each question.

Knows groups and slots; computes nothing. Packed tokens have no padding, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.engines._grouping import Group


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

    @property
    def flops_attention(self) -> int:
        """Number of query-key pairs in causal attention, as a measure of its work."""
        own = sum(part.length * (part.length + 1) // 2 for part in self.parts)
        return own + sum(
            rest.length * self.parts[rest.part].length + rest.length * (rest.length + 1) // 2 for rest in self.rests
        )


def lay_out(groups: Sequence[Group], slots: Sequence[Sequence[int]]) -> Chunk:
    """Return the chunk for these groups; `slots`: the slots of each group's questions."""
    parts: list[Part] = []
    ids, positions, places, features = [], [], [], []
    start = 0
    for group, taken in zip(groups, slots, strict=True):
        length = len(group.ids)
        parts.append(Part(start, length, tuple(taken)))
        ids.append(group.ids)
        positions.append(torch.arange(length))
        if group.features is not None and group.places is not None:
            places.append(group.places + start)
            features.append(group.features)
        start += length
    tails = [
        (parts[number].length, len(question.ids) - 1, number, slot, question)
        for number, (group, taken) in enumerate(zip(groups, slots, strict=True))
        for slot, question in zip(taken, group.questions, strict=True)
        if len(question.ids) > 1
    ]
    rests: list[Rest] = []
    for before, length, number, slot, question in sorted(tails, key=lambda tail: tail[:4]):
        rests.append(Rest(slot, number, start, length))
        ids.append(question.ids[:-1])
        positions.append(torch.arange(before, before + length))
        if question.features is not None and question.places is not None:
            places.append(question.places + start)
            features.append(question.features)
        start += length
    device = ids[0].device
    return Chunk(
        torch.cat(ids),
        torch.cat(positions).to(device),
        torch.cat(places) if places else None,
        torch.cat(features) if features else None,
        tuple(parts),
        tuple(rests),
    )
