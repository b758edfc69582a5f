"""Choices that several commands share: how answers are scored, and how Japanese is told. Knows tasks and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from evovlm.system.errors import UserError
from evovlm.tasks import Options
from evovlm.tasks.metrics.fasttext_language import fasttext_detector
from evovlm.tasks.metrics.language import DETECTOR_NAME, is_japanese
from evovlm.tasks.metrics.numbers import NumberScoring

SCORINGS = ("compatible", "corrected")


def task_options(*, scoring: str | None, lid: Path | None, download: bool = False, path: Path | None = None) -> Options:
    """The options of tasks. Raises UserError for a scoring that there is not, or a language file that is none."""
    if scoring is not None and scoring not in SCORINGS:
        raise UserError(f"--scoring: unknown {scoring!r}; choose from {list(SCORINGS)}")
    japanese = is_japanese if lid is None else fasttext_detector(lid)
    name = DETECTOR_NAME if lid is None else f"fastText {lid.name}"
    return Options(path, None, cast("NumberScoring | None", scoring), download, japanese, name)
