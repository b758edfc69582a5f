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


def size(nbytes: float) -> str:
    """A number of bytes: `14.5 GB`, with decimal units as on disk labels (1 kB is 1000 B)."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
