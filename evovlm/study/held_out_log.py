"""The log of held-out answers: one line per model and item. Knows its columns; no models and no tasks.

A model is known by its kind and its name: a source may be called as the winner or a control is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evovlm.study import log as study_log
from evovlm.study.header import Tell
from evovlm.system import files

Kind = Literal["sources", "controls", "evolved"]
EVOLVED: Final = "evolved"  # the winner's kind and its name


class HeldOutAnswer(BaseModel):
    """One model's answer to one item. `key`: the model with what identifies it; `content`: the item's hash.

    Earlier versions wrote neither `kind` nor `content`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    model: str
    key: str
    id: str
    question: str
    references: tuple[str, ...]
    answer: str
    score: float
    exact: bool
    kind: Kind = "controls"
    content: str | None = None

    @property
    def row(self) -> tuple[Kind, str]:
        """The row of the held-out table that the answer belongs to."""
        return self.kind, self.model


def read_held_out(folder: Path, tell: Tell) -> list[HeldOutAnswer]:
    """All held-out answers of a study, in order. Damaged lines are left out; `tell` is called with a sentence then."""
    path, found, wrong = folder / study_log.HELD_OUT_ANSWERS, [], []
    for number, row in files.numbered_rows(path, tell):
        try:
            found.append(HeldOutAnswer.model_validate(row if "kind" in row else row | {"kind": _kind(row)}))
        except ValidationError:
            wrong.append(number)
    if wrong:
        tell(files.left_out(path, wrong, "not an answer"))
    return found


def _kind(row: dict[str, Any]) -> Kind:
    """The kind of a row of an earlier version, by its key: of the details, only a source has `model`."""
    name, key = row.get("model"), str(row.get("key"))
    if key.startswith(f"{name} model="):
        return "sources"
    return "evolved" if name == EVOLVED and key.startswith(f"{EVOLVED} digest=") else "controls"
