"""Options that several commands share: scoring and Japanese detection. Knows tasks and metrics."""

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
    """Task options. Raises UserError for an unknown scoring or an unusable language file."""
    if scoring is not None and scoring not in SCORINGS:
        raise UserError(f"--scoring: unknown {scoring!r}; choose from {list(SCORINGS)}")
    japanese = is_japanese if lid is None else fasttext_detector(lid)
    name = DETECTOR_NAME if lid is None else f"fastText {lid.name}"
    return Options(path, None, cast("NumberScoring | None", scoring), download, japanese, name)
