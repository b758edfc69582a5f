import pytest

from evovlm.system.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "under 1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200.3, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (60 * 3600, "60 h 00 min"),
        (100 * 3600, "4 days 4 h"),
    ],
)
def test_durations_have_human_units(seconds: float, words: str):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("nbytes", "words"), [(999, "999 B"), (1500, "1.5 kB"), (14.5e9, "14.5 GB"), (2.5e12, "2.5 TB")]
)
def test_sizes_have_decimal_units(nbytes: float, words: str):
    assert size(nbytes) == words
