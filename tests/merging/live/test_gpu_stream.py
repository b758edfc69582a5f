"""Each part's tensors are there when it is ready, in as many blocks as there is room for."""

import math
from functools import partial

import pytest
import torch

from evovlm.merging.live._gpu_stream import SLOTS, Feed, Wanted
from evovlm.merging.live.placement import Place

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
PLACES: tuple[Place, ...] = ("gpu", "host", "disk")
LENGTHS = [[700, 30], [1000], [1, 2, 3], [999, 1], [64], [500, 500], [10]]
BLOCK = 2 * (4096 + 256)  # bytes of the largest part, from host memory and from disk: 999 floats and 1, rounded up


def values(part: int, index: int, place: Place) -> torch.Tensor:
    count = LENGTHS[part][index]
    return torch.arange(count, dtype=torch.float32) + 10_000 * part + 1000 * index + PLACES.index(place) / 4


def parts() -> list[list[Wanted]]:
    return [
        [
            Wanted((f"{part}.{index}", place), count, torch.float32, place, partial(values, part, index, place))
            for index, count in enumerate(lengths)
            for place in PLACES
        ]
        for part, lengths in enumerate(LENGTHS)
    ]


@pytest.mark.parametrize(("room", "slots"), [(math.inf, SLOTS), (2.5 * BLOCK, 2), (BLOCK, 1), (0.0, 1)])
def test_every_part_has_its_own_values_candidate_after_candidate(room: float, slots: int):
    feed = Feed(parts(), DEVICE, room)
    assert len({feed.tensors(part)[f"{part}.0", "host"].data_ptr() for part in range(len(LENGTHS))}) == slots
    addresses = [{name: one.data_ptr() for name, one in feed.tensors(part).items()} for part in range(len(LENGTHS))]
    for stopped in (3, len(LENGTHS), len(LENGTHS)):  # the first candidate is dropped half way
        feed.begin()
        for part in range(stopped):
            feed.ready(part)
            found = feed.tensors(part)
            assert {name: one.data_ptr() for name, one in found.items()} == addresses[part]
            for index in range(len(LENGTHS[part])):
                for place in PLACES:
                    assert torch.equal(found[f"{part}.{index}", place].cpu(), values(part, index, place))
            feed.done(part)


def test_what_lies_on_the_device_is_not_streamed():
    kept = [[one for one in part if one.place == "gpu"] for part in parts()]
    feed = Feed(kept, DEVICE)
    assert not feed.streams
    feed.begin()
    assert torch.equal(feed.tensors(6)["6.0", "gpu"].cpu(), values(6, 0, "gpu"))
