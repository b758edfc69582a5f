"""Presets: named prompts, generation settings and scoring, from the task's own list or from a user's file.

Knows no data sets and no models. A task's first preset is its default; the others list only their changes to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evovlm.recipe.limits import MOST_BEAMS, MOST_NEW_TOKENS, MOST_SEED
from evovlm.recipe.where import is_preset_file
from evovlm.system.bounded_files import Unreadable, read_text
from evovlm.system.bounded_yaml import YamlFault, parse_yaml
from evovlm.system.errors import DataError
from evovlm.system.files import counted_from
from evovlm.tasks.metrics.numbers import NumberScoring
from evovlm.tasks.protocol import Generation

MOST_BYTES = 262_144  # of a preset's file: a prompt with a few solved examples has a hundredth
MOST_SHOTS = 1000  # solved examples before a question; no model's context holds as many

Changes = Mapping[str, Any]  # a subset of a preset's keys
Presets = Mapping[str, Changes]  # a task's presets by name, the default first and complete


class Preset(BaseModel):
    """A task's prompt, generation settings and scoring.

    template: the prompt; contains {question}, and <image> at the image's position. max_new_tokens, num_beams,
    repetition_penalty, stop, temperature, seed, chat, base_tile: as in `Generation`. scoring: how numbers are read,
    `compatible` (the paper's code) or `corrected`. questions: `first` (one question per image, as in the paper's code)
    or `all`. shots: number of solved examples before the question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    template: str = Field(pattern=r"\{question\}")
    max_new_tokens: int = Field(ge=1, le=MOST_NEW_TOKENS)
    num_beams: int = Field(default=1, ge=1, le=MOST_BEAMS)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=100.0, allow_inf_nan=False)
    stop: tuple[str, ...] = Field(default=(), max_length=100)
    temperature: float = Field(default=0.0, ge=0.0, le=100.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    chat: bool = False
    base_tile: bool = False
    scoring: NumberScoring = "corrected"
    questions: Literal["first", "all"] = "all"
    shots: int = Field(default=0, ge=0, le=MOST_SHOTS)

    @model_validator(mode="after")
    def _sampling_is_plain(self) -> Self:
        if self.temperature > 0 and (self.num_beams > 1 or self.repetition_penalty != 1.0):
            raise ValueError("temperature needs num_beams 1 and repetition_penalty 1; set them, or temperature 0")
        return self

    @property
    def generation(self) -> Generation:
        """The prompt and generation settings."""
        # 8-bit products are for searches only.
        names = Generation.__dataclass_fields__.keys() & type(self).model_fields.keys()
        return Generation(**{name: getattr(self, name) for name in names})


def preset_of(task: str, presets: Presets, name: str | None = None, root: Path | None = None) -> Preset:
    """One of a task's presets by name; None gives the default. A name ending in .yaml or .yml is a file of preset keys.

    `greedy+llava` combines two presets; the later one wins. `root`: files count from it; None: the working directory.
    Raises DataError, listing the choices, for an unknown name or key.
    """
    default = next(iter(presets))
    chosen = name or default
    changes: dict[str, Any] = {}
    for part in chosen.split("+"):
        if is_preset_file(part):
            changes |= _read(counted_from(root or Path(), part))
        elif part in presets:
            # The others are changes to the default, so applying it after them would only undo those changes.
            changes |= presets[part] if part != default else {}
        else:
            raise DataError(f"preset: {task} has no {part!r}; choose from {list(presets)}, or give a .yaml file")
    try:
        return Preset.model_validate({**presets[default], **changes, "name": chosen})
    except ValidationError as error:
        first = error.errors()[0]
        key = "".join(f"{part}: " for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        raise DataError(f"preset {chosen}: {key}{told}; the keys are {sorted(Preset.model_fields)}") from None


def set_by_files(name: str | None, root: Path | None = None) -> dict[str, Any]:
    """The keys that the files in a preset's name set, as they are written there. The arguments are `preset_of`'s."""
    found: dict[str, Any] = {}
    for part in (name or "").split("+"):
        if is_preset_file(part):
            found |= _read(counted_from(root or Path(), part))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(read_text(path, MOST_BYTES)).content
    except FileNotFoundError:
        raise DataError(f"preset: {path}: no such file; give a YAML file of preset keys") from None
    except Unreadable as error:
        raise DataError(f"preset: {error}; give a YAML file of preset keys") from None
    except YamlFault as fault:
        raise DataError(f"preset: {path}:{fault.line}: {fault}") from None
    if not isinstance(content, dict):
        raise DataError(f"preset: {path} is not a mapping; give keys such as `num_beams: 1`")
    return content
