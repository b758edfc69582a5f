"""What every part of the speed benchmark is told. Knows no part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evovlm_benchmarks.speed.floors import Rates


@dataclass(frozen=True)
class Settings:
    """device: where candidates are made and answered. scale: of the tower, in `merge_speed.SCALES`.

    quick: the figures that have targets alone. mergekit: mergekit-yaml of its own environment, for merges to disk.
    work: where checkpoints are made; None: a temporary folder.
    """

    device: torch.device
    scale: str
    quick: bool
    mergekit: Path | None
    work: Path | None


# A part measures and gives rows as they come; a row's `ratio`, where there is one, is to its floor in the same run.
Part = Callable[[Settings, Rates], Iterable[dict[str, Any]]]
