"""Is a text Japanese, by fastText's language identification (lid.176), as the paper's code tells it.

Knows the optional package fasttext and its model file; no scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evovlm.system.errors import DataError
from evovlm.tasks.metrics.language import Detector

JAPANESE = "__label__ja"


def fasttext_detector(path: Path) -> Detector:
    """A detector from a file such as lid.176.ftz: P(ja) of at least 0.5 over all labels, line breaks dropped.

    Raises DataError where the file or the package is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; fetch fastText's lid.176.ftz, or leave it out for the script rule")
    try:
        import fasttext
    except ImportError:
        raise DataError("telling Japanese by fastText needs a package; pip install 'evovlm[lid]'") from None
    try:
        model: Any = fasttext.load_model(str(path))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path}: no fastText model ({error})") from None

    def japanese(text: str) -> bool:
        labels, shares = model.predict(text.replace("\n", ""), k=-1)
        return bool(dict(zip(labels, shares, strict=True)).get(JAPANESE, 0.0) >= 0.5)

    return japanese
