"""Seconds and bytes as people read them. Knows numbers only."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A length of time: `12 s`, `3 min 20 s`, `1 h 05 min`, `4 days 3 h`."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 72 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} days {hours % 24} h"


def duration_range(shortest: float, longest: float) -> str:
    """Two lengths of time in one unit, without more digits than an estimate has: `12 to 20 min`, `1.4 to 2.1 h`.

    The unit is the longer one's: seconds below 2 min, minutes below 2 h, hours below 3 days.
    """
    if longest < 0.5:
        return duration(longest)
    unit, name = next(((unit, name) for most, unit, name in _UNITS if longest < most), (86400, "days"))
    low, high = (_plain(seconds / unit, decimals=unit > 1) for seconds in (shortest, longest))
    return f"about {high} {name}" if low == high else f"{low} to {high} {name}"


_UNITS = ((120, 1, "s"), (7200, 60, "min"), (72 * 3600, 3600, "h"))


def _plain(value: float, *, decimals: bool) -> str:
    """A number, with one decimal below 10 if it may have `decimals`; `0.0` is `0`."""
    return f"{value:.1f}".removesuffix(".0") if decimals and value < 9.95 else f"{value:.0f}"


def size(nbytes: float) -> str:
    """A number of bytes: `14.5 GB`, with decimal units as on disk labels (1 kB is 1000 B)."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
