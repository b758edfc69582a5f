"""Settings shared by all parts of the speed benchmark. Knows no part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evovlm_benchmarks.speed.floors import Rates


@dataclass(frozen=True)
class Settings:
    """device: where candidates are merged and answered. scale: the tower's size, a key of `merge_speed.SCALES`.

    quick: only the figures that have targets. mergekit: path of mergekit-yaml, for merges to disk. work: folder for
    temporary checkpoints; None: the system's. methods: merge methods of the parts `methods` and `prepare`;
    empty: all that these know. candidates: how many the part `ranks` compares; None: its default.
    """

    device: torch.device
    scale: str
    quick: bool
    mergekit: Path | None
    work: Path | None
    methods: tuple[str, ...] = ()
    candidates: int | None = None


# A part yields rows as it measures them; a row's `ratio`, if any, is to its floor in the same run.
Part = Callable[[Settings, Rates], Iterable[dict[str, Any]]]
