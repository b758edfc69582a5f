"""A suite: which models answer which tasks, and how. Read from YAML or built from command-line flags.

Knows only names; opens no models and reads no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evovlm.recipe.schema import split_where
from evovlm.recipe.shipped import find_file
from evovlm.system.errors import UserError

SUITES = Path(__file__).parents[1] / "suites"


class SuiteModel(BaseModel):
    """A model and its name in results. `presets`: a preset to add for this model on tasks that have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    model: str
    revision: str | None = None
    presets: str | None = None
    search: str | None = None  # TASK:SPLIT of its search; read from recipe.yaml if in the folder


class SuiteTask(BaseModel):
    """A task's split, TASK:SPLIT or TASK@PATH:SPLIT. `items` None: all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    items: int | None = Field(default=None, ge=1)
    preset: str | None = None


class Suite(BaseModel):
    """Models x tasks. `batch` None: estimated per pair from the free memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[SuiteModel, ...] = Field(min_length=1)
    tasks: tuple[SuiteTask, ...] = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    batch: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two models are called {twice[0]!r}; give each a unique name, as NAME=MODEL")
        return self


def shipped_suites() -> dict[str, Path]:
    """The files of the suites shipped with evovlm, by name."""
    return {path.stem: path for path in sorted(SUITES.glob("*.yaml"), key=lambda path: path.stem)}


def read_suite(name: str) -> Suite:
    """A suite from a YAML file or, by name, a shipped one. Raises UserError with the choices, or with file and key."""
    path = find_file(name, shipped_suites(), "suite")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{name}: cannot be read as a suite ({error}); give a UTF-8 YAML file") from None
    return make_suite(content, where=name)


def make_suite(content: Any, where: str) -> Suite:
    """A suite from a mapping. Raises UserError, naming the key, if it is invalid."""
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "suite"
        raise UserError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}") from None


def narrowed(content: dict[str, Any], only: Sequence[str], skip: Sequence[str], added: Sequence[str]) -> dict[str, Any]:
    """A suite's content without what `only` does not name, or `skip` does: models by name, tasks by TASK or TASK:SPLIT.

    Where `only` names no task, all tasks stay, and the same for models. `added`: names of models that stay in any case;
    `only` may name them, too. Raises UserError, with the choices, for an unknown name, and if nothing stays.
    """
    models = [model["name"] for model in content["models"]]
    tasks = [name for asked in content["tasks"] for name in _names_of_task(asked["task"])]
    for option, names, known in (("--only", only, [*models, *added, *tasks]), ("--skip", skip, [*models, *tasks])):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(f"{option}: no model or task {unknown[0]!r} here; choose from {list(dict.fromkeys(known))}")
    kept = dict(content)
    wanted = set(only) & {*models, *added}
    kept["models"] = [
        model for model in content["models"] if (not wanted or model["name"] in wanted) and model["name"] not in skip
    ]
    wanted = set(only) & set(tasks)
    kept["tasks"] = [
        asked
        for asked in content["tasks"]
        for names in [_names_of_task(asked["task"])]
        if (not wanted or wanted & names) and not names & set(skip)
    ]
    if not kept["tasks"] or not (kept["models"] or added):
        raise UserError("--only, --skip: nothing is left to run; name fewer in --skip, or more in --only")
    return kept


def _names_of_task(asked: str) -> set[str]:
    """What a task of a suite may be called: TASK@PATH:SPLIT as it stands, TASK:SPLIT, and TASK."""
    name, split = split_where(asked)[0], asked.rpartition(":")[2]
    return {asked, name, f"{name}:{split}"}


def named_model(text: str) -> SuiteModel:
    """A model from NAME=MODEL or MODEL."""
    name, sign, model = text.partition("=")
    return SuiteModel(name=name, model=model) if sign else SuiteModel(name=text.rstrip("/"), model=text)
