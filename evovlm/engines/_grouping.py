"""Groups prompts with a common prefix, which is computed once. Knows token ids and image features; no models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evovlm.engines.prompts import Prompt

# Prompts without an image share a prefix only if it has this many tokens and is this share of the mean prompt.
WORTH_SHARING = 16
SHARE = 0.25


@dataclass(frozen=True)
class Question:
    """The rest of one prompt after the group's prefix, and its image features."""

    index: int  # of the prompt, in item order
    ids: Tensor  # int64 [at least 1]
    last: int  # its last token, known without reading from the device
    features: Tensor | None = None
    places: Tensor | None = None  # where in `ids` the features go: int64
    deep: Tensor | None = None  # the part of `Prompt.deep` for these tokens
    axes: Tensor | None = None  # the part of `Prompt.axes` for these tokens
    shift: int = 0  # see `Prompt.shift`


@dataclass(frozen=True)
class Group:
    """Prompts that begin with the same tokens and the same image."""

    ids: Tensor  # the common prefix: int64 [length], may be empty
    features: Tensor | None
    places: Tensor | None
    questions: tuple[Question, ...]
    deep: Tensor | None = None
    axes: Tensor | None = None

    @property
    def longest(self) -> int:
        """Number of tokens of its longest prompt."""
        return len(self.ids) + max(len(question.ids) for question in self.questions)


def group_prompts(prompts: Sequence[Prompt], indices: Sequence[int], image_token: int | None, most: int) -> list[Group]:
    """Group the prompts at `indices`, the longest prefix first, with at most `most` prompts per group.

    For a prompt in a group of its own, the prefix is everything except its last token, which the first decoding step
    reads.
    """
    found: list[Group] = []
    for members in _alike(prompts, indices):
        shared = _shared(prompts, members)
        if shared == 0:
            found += [_group(prompts, [index], len(prompts[index].ids) - 1, image_token) for index in members]
            continue
        for start in range(0, len(members), most):
            part = members[start : start + most]
            length = shared if len(part) > 1 else len(prompts[part[0]].ids) - 1
            found.append(_group(prompts, part, length, image_token))
    return sorted(found, key=lambda group: (-len(group.ids), group.questions[0].index))


def _alike(prompts: Sequence[Prompt], indices: Sequence[int]) -> list[list[int]]:
    """Indices by image; prompts without an image form one list."""
    by_picture: dict[int | None, list[int]] = {}
    for index in indices:
        features = prompts[index].features
        by_picture.setdefault(None if features is None else id(features), []).append(index)
    return list(by_picture.values())


def _shared(prompts: Sequence[Prompt], members: Sequence[int]) -> int:
    """Length of the members' common prefix in tokens; 0 if sharing it is not worth it."""
    if len(members) == 1:
        return len(prompts[members[0]].ids) - 1
    first = prompts[members[0]].ids
    shared = min(len(prompts[index].ids) for index in members) - 1  # each keeps at least one token of its own
    for index in members[1:]:
        differ = (first[:shared] != prompts[index].ids[:shared]).nonzero()
        shared = int(differ[0]) if len(differ) else shared
    if prompts[members[0]].features is None:
        mean = sum(len(prompts[index].ids) for index in members) / len(members)
        return shared if shared >= max(WORTH_SHARING, SHARE * mean) else 0
    return shared


def _group(prompts: Sequence[Prompt], members: Sequence[int], shared: int, image_token: int | None) -> Group:
    first = prompts[members[0]]
    places = _places(first.ids[:shared], image_token) if first.features is not None else None
    seen = 0 if places is None else len(places)
    questions = []
    for index in members:
        prompt = prompts[index]
        rest = prompt.ids[shared:]
        later = _places(rest, image_token) if prompt.features is not None else None
        has_more = later is not None and len(later) > 0
        questions.append(
            Question(
                index,
                rest,
                int(rest[-1]),
                _part(prompt.features, seen, None) if has_more else None,
                later if has_more else None,
                deep=_part(prompt.deep, seen, None, axis=1) if has_more else None,
                axes=_part(prompt.axes, shared, None, axis=1),
                shift=prompt.shift,
            )
        )
    return Group(
        first.ids[:shared],
        _part(first.features, 0, seen) if seen else None,
        places if seen else None,
        tuple(questions),
        deep=_part(first.deep, 0, seen, axis=1) if seen else None,
        axes=_part(first.axes, 0, shared, axis=1),
    )


def _part(whole: Tensor | None, start: int, stop: int | None, axis: int = 0) -> Tensor | None:
    """A slice along an axis; None of None."""
    if whole is None:
        return None
    return whole[start:stop] if axis == 0 else whole[:, start:stop]


def _places(ids: Tensor, image_token: int | None) -> Tensor | None:
    if image_token is None:
        return None
    return torch.nonzero(ids == image_token).squeeze(1)
