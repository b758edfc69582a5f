"""Presets: how a task asks and scores, by name, read from `presets.yaml` or from a user's own file.

Knows no data sets and no models. A task's first preset is its default; the others name only what they change of it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evovlm.system.errors import DataError
from evovlm.tasks.metrics.numbers import NumberScoring
from evovlm.tasks.protocol import Generation


class Preset(BaseModel):
    """A task's prompt, generation settings and scoring; `presets.yaml` says what each key means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    template: str = Field(pattern=r"\{question\}")
    max_new_tokens: int = Field(ge=1)
    num_beams: int = Field(default=1, ge=1)
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    stop: tuple[str, ...] = ()
    temperature: float = Field(default=0.0, ge=0.0)
    seed: int = Field(default=0, ge=0)
    chat: bool = False
    base_tile: bool = False
    scoring: NumberScoring = "corrected"
    questions: Literal["first", "all"] = "all"
    shots: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sampling_is_plain(self) -> Self:
        if self.temperature > 0 and (self.num_beams > 1 or self.repetition_penalty != 1.0):
            raise ValueError("temperature goes with num_beams 1 and repetition_penalty 1; set them, or temperature 0")
        return self

    @property
    def generation(self) -> Generation:
        """The part that a model is asked by."""
        names = Generation.__dataclass_fields__
        return Generation(**{name: getattr(self, name) for name in names})


def presets_of(task: str) -> list[str]:
    """The names of a task's presets, the default first."""
    return list(_shipped()[task])


def has_preset(task: str, name: str) -> bool:
    """Whether a task ships a preset of that name."""
    return name in _shipped().get(task, {})


def preset_of(task: str, name: str | None = None) -> Preset:
    """A task's preset by name; None gives the default. A name that ends in .yaml is a file of a preset's keys.

    `greedy+llava`: both, the later over the earlier. Raises DataError for a name or key that there is not, with the
    choices.
    """
    shipped = _shipped()[task]
    default = next(iter(shipped))
    chosen = name or default
    changes: dict[str, Any] = {}
    for part in chosen.split("+"):
        if part.endswith((".yaml", ".yml")):
            changes |= _read(Path(part))
        elif part in shipped:
            # The default is what the others change: after another it would only take the changes back.
            changes |= shipped[part] if part != default else {}
        else:
            raise DataError(f"preset: {task} has no {part!r}; choose from {list(shipped)}, or give a .yaml file")
    try:
        return Preset.model_validate(shipped[default] | changes | {"name": chosen})
    except ValidationError as error:
        first = error.errors()[0]
        key = "".join(f"{part}: " for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise DataError(f"preset {chosen}: {key}{told}; the keys are {sorted(Preset.model_fields)}") from None


@cache
def _shipped() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("evovlm.tasks").joinpath("presets.yaml").read_text(encoding="utf-8")
    content: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(text)
    del content["shared"]  # parts that tasks refer to
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"preset: {path} cannot be read ({error}); give a YAML file of a preset's keys") from None
    if not isinstance(content, dict):
        raise DataError(f"preset: {path} is no mapping; give keys such as `num_beams: 1`")
    return content
