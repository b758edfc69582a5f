"""Sources go to the GPU while they fit, then to host memory, then to disk; a flag forces them."""

import pytest

from evovlm.merging.live.placement import Memory, choose_places
from evovlm.system.errors import RecipeError

GB = 10**9
SEVEN = {"base": 14 * GB, "ja": 14 * GB, "math": 14 * GB}


def test_all_lie_on_a_large_gpu():
    placement = choose_places(SEVEN, Memory(124 * GB, 140 * GB, 100 * GB, 128 * GB))
    assert set(placement.places.values()) == {"gpu"}
    assert not placement.streams


def test_what_does_not_fit_goes_to_host_memory_and_then_to_disk():
    placement = choose_places(SEVEN, Memory(45 * GB, 80 * GB, 30 * GB, 40 * GB))
    assert dict(placement.places) == {"base": "gpu", "ja": "host", "math": "disk"}
    assert placement.in_words() == (
        "base (14.00 GB) on the GPU; ja (14.00 GB) in pinned host memory, streamed;"
        " math (14.00 GB) mapped from disk, streamed"
    )


def test_a_flag_forces_a_place():
    nothing = Memory(0, 0, 0, 0)
    assert set(choose_places(SEVEN, nothing, "host").places.values()) == {"host"}


def test_an_unknown_place_is_told_its_choices():
    with pytest.raises(RecipeError, match=r"cellar.*auto.*gpu.*host.*disk"):
        choose_places(SEVEN, Memory(0, 0, 0, 0), "cellar")
