"""A suite: which models answer which tasks, and how. Read from YAML or built from command-line flags.

Knows only names; opens no models and reads no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evovlm.recipe.limits import MOST_BATCH, MOST_BYTES, MOST_ITEMS, MOST_SEED
from evovlm.recipe.shipped import find_file
from evovlm.recipe.where import split_where
from evovlm.system.bounded_files import read_text
from evovlm.system.bounded_yaml import YamlFault, kind_of, parse_yaml, place_of
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged

# Models, and tasks, of a suite: every model answers every task.
MOST_PARTS = 1000
SUITES = Path(__file__).parents[1] / "suites"


class SuiteModel(BaseModel):
    """A model and its name in results. `presets`: a preset to add for this model on tasks that have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    model: str = Field(min_length=1)
    revision: str | None = None
    presets: str | None = None
    search: str | None = None  # TASK:SPLIT of its search; read from recipe.yaml if in the folder


class SuiteTask(BaseModel):
    """A task's split, TASK:SPLIT or TASK@PATH:SPLIT. `items` None: all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    items: int | None = Field(default=None, ge=1, le=MOST_ITEMS)
    preset: str | None = None


class Suite(BaseModel):
    """Models x tasks. `batch` None: estimated per pair from the free memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[SuiteModel, ...] = Field(min_length=1, max_length=MOST_PARTS)
    tasks: tuple[SuiteTask, ...] = Field(min_length=1, max_length=MOST_PARTS)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    batch: int | None = Field(default=None, ge=1, le=MOST_BATCH)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two models are called {abridged(twice[0])!r}; give each a unique name, as NAME=MODEL")
        return self


def shipped_suites() -> dict[str, Path]:
    """The files of the suites shipped with evovlm, by name."""
    return {path.stem: path for path in sorted(SUITES.glob("*.yaml"), key=lambda path: path.stem)}


def read_suite(name: str) -> Suite:
    """A suite from a YAML file or, by name, a shipped one. Raises UserError with the choices, or with file and key."""
    path = find_file(name, shipped_suites(), "suite")
    try:
        parsed = parse_yaml(read_text(path, MOST_BYTES))
        return Suite.model_validate(parsed.content)
    except YamlFault as fault:
        raise UserError(f"{name}:{fault.line}: {fault}") from None
    except ValidationError as error:
        line, _ = place_of(parsed.root, error.errors()[0]["loc"])
        raise UserError(f"{name}:{line}: {_mistake(error)}") from None


def make_suite(content: Any, where: str) -> Suite:
    """A suite from a mapping. Raises UserError, naming the key, if it is invalid."""
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_mistake(error)}") from None


def _mistake(error: ValidationError) -> str:
    """The key and the text of the first mistake."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "suite"
    if first["type"] == "tuple_type":
        return f"{key}: is {kind_of(first['input'])}; give a list"
    if first["type"] == "model_type":
        wanted = "`models` and `tasks`" if not first["loc"] else f"`{str(first['loc'][0]).removesuffix('s')}: ...`"
        return f"{key}: is {kind_of(first['input'])}; give a mapping with {wanted}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"


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
            raise UserError(
                f"{option}: no model or task {abridged(unknown[0])!r} here; choose from {list(dict.fromkeys(known))}"
            )
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
    """A model from NAME=MODEL or MODEL. Raises UserError if a part is empty."""
    name, sign, model = text.partition("=")
    if not (name.rstrip("/") and (model or not sign)):
        raise UserError(f"--model {abridged(text)!r}: give MODEL or NAME=MODEL")
    return SuiteModel(name=name, model=model) if sign else SuiteModel(name=text.rstrip("/"), model=text)
