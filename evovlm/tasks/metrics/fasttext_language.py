"""Detect Japanese with fastText's language identification (lid.176), as the paper's code does.

Knows the optional package fasttext and its model file; no scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evovlm.system.bounded_files import Unreadable, open_regular
from evovlm.system.errors import DataError
from evovlm.tasks.metrics.language import Detector
from evovlm.tasks.metrics.limits import encodable, head

JAPANESE = "__label__ja"


def fasttext_detector(path: Path) -> Detector:
    """A detector from a model file such as lid.176.ftz: Japanese means P(ja) >= 0.5 over all labels.

    Line breaks in the text are dropped, and what follows its first 65,536 characters. Raises DataError if the file or
    the package is missing, or the file is broken.
    """
    try:
        open_regular(path).close()
    except (FileNotFoundError, Unreadable) as error:
        told = str(error) if isinstance(error, Unreadable) else f"{path}: no such file"
        raise DataError(f"{told}; download fastText's lid.176.ftz, or omit it for the script rule") from None
    try:
        import fasttext
    except ImportError:
        raise DataError("detecting Japanese with fastText needs a package; pip install 'evovlm[lid]'") from None
    try:
        model: Any = fasttext.load_model(str(path))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a fastText model ({error}); download lid.176.ftz again") from None

    def japanese(text: str) -> bool:
        labels, shares = model.predict(encodable(head(text)).replace("\n", ""), k=-1)
        return bool(dict(zip(labels, shares, strict=True)).get(JAPANESE, 0.0) >= 0.5)

    return japanese
