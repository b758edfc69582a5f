import pytest

from evovlm.system.units import duration, duration_range, size


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
    ("shortest", "longest", "words"),
    [
        (0.1, 0.4, "under 1 s"),
        (0.2, 0.9, "0 to 1 s"),
        (29.0, 116.0, "29 to 116 s"),
        (90.0, 600.0, "1.5 to 10 min"),
        (720.0, 1200.0, "12 to 20 min"),
        (1200.0, 1203.0, "about 20 min"),
        (5400.0, 10800.0, "1.5 to 3 h"),
        (86400.0, 345600.0, "1 to 4 days"),
    ],
)
def test_ranges_have_one_unit_and_no_needless_digits(shortest: float, longest: float, words: str):
    assert duration_range(shortest, longest) == words


@pytest.mark.parametrize(
    ("nbytes", "words"), [(999, "999 B"), (1500, "1.5 kB"), (14.5e9, "14.5 GB"), (2.5e12, "2.5 TB")]
)
def test_sizes_have_decimal_units(nbytes: float, words: str):
    assert size(nbytes) == words
