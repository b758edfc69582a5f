"""Read mergekit's YAML (0.1.x) into a recipe.

Knows mergekit's keys and their meaning; merges nothing. If a setting depends on the model's depth or dtype and the
file does not give it, the model's `config.json` is read, if it is on this machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evovlm.methods import METHODS, Method
from evovlm.models.checkpoint import Checkpoint
from evovlm.models.configuration import read_config
from evovlm.models.layouts import detect_layout
from evovlm.models.open_model import resolve_folder
from evovlm.recipe.limits import MOST_LAYERS, MOST_SOURCES
from evovlm.recipe.mergekit._documents import Document, read_document, refuse_other_programs
from evovlm.recipe.mergekit._models import Model, name_of, one_base
from evovlm.recipe.mergekit._places import check_settings, key_of_filter, key_of_number, key_of_unset
from evovlm.recipe.mergekit._settings import (
    IGNORED,
    REQUIRED,
    Scope,
    constant,
    flag,
    known_parameters,
    mapping,
    number,
    own_value,
    shared_methods,
    takes_part,
)
from evovlm.recipe.mergekit._slices import (
    Segment,
    UnfitFilter,
    Unset,
    read_parameters,
    read_segments,
    refuse_other_slices,
    whole_groups,
)
from evovlm.recipe.mergekit._tokenizer import read_chat_template, read_vocabulary_keys
from evovlm.recipe.schema import WHOLE, Recipe, Slice
from evovlm.system.bounded_yaml import Parsed, YamlFault, parse_yaml, place_of
from evovlm.system.errors import RecipeError, UserError

log = logging.getLogger(__name__)


def read_mergekit(text: str, path: Path | None = None) -> Recipe:
    """Read mergekit's YAML.

    `path`: the file of the text; named in errors, and relative model folders are resolved from its folder.
    Raises RecipeError, which names the key, if a key is wrong or evovlm cannot express it.
    """
    try:
        parsed = parse_yaml(text)
    except YamlFault as fault:
        raise RecipeError(f"{path or 'mergekit YAML'}:{fault.line}: {fault}") from None
    return read_content(parsed, path)


def read_content(parsed: Parsed, path: Path | None) -> Recipe:
    """As `read_mergekit`, from YAML that has been parsed."""
    try:
        if not isinstance(parsed.content, dict):
            raise RecipeError("not a mapping of mergekit's keys, such as `merge_method: ties`")
        refuse_other_programs(parsed.content)
        check_settings(parsed.content)
        return _Reader(read_document(parsed.content), path.parent if path is not None else Path()).recipe()
    except ValidationError as error:
        told = _unfit(parsed.content, error)
        raise RecipeError(f"{_where(parsed, path, told)}: {told}") from None
    except (UnfitFilter, Unset) as error:
        content = parsed.content
        if isinstance(error, Unset):
            key, problem = key_of_unset(content, error.name, error.model, str(error))
        else:
            key, problem = key_of_filter(content, error.text), str(error)
        raise RecipeError(f"{_where(parsed, path, f'{key}:')}: {key}: {problem}") from None
    except RecipeError as error:
        raise RecipeError(f"{_where(parsed, path, str(error))}: {error}") from None


def _unfit(content: Any, error: ValidationError) -> str:
    """The key that the user wrote, and what is wrong with its value, of the first value that a recipe cannot have."""
    for one in error.errors():
        place = [str(step) for step in one["loc"]]
        name = {"parameters": place[2:3], "options": place[1:2]}.get(place[0], [])
        row = METHODS.get(str(content.get("merge_method")))
        theirs = {ours: theirs for theirs, ours in ((row.mergekit or {}) if row is not None else {}).items()}
        key = key_of_number(content, theirs.get(name[0], name[0]), one["input"]) if name else None
        if key is not None:
            return f"{key}: {one['msg'].removeprefix('Value error, ')}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"


def _where(parsed: Parsed, path: Path | None, told: str) -> str:
    """The file, with the line of the key that an error starts with, such as `slices.0.sources: ...`."""
    if path is None or parsed.root is None:
        return str(path or "mergekit YAML")
    keys = told.partition(":")[0].split(",")[0].split(".")
    line, found = place_of(parsed.root, tuple(int(key) if key.isdecimal() else key for key in keys))
    return f"{path}:{line}" if found else str(path)


class _Reader:
    """One file's content and what was parsed from it."""

    def __init__(self, document: Document, root: Path) -> None:
        self._content = content = document.content
        self._place = document.place
        self._root = root
        self._parameters = mapping(content.get("parameters"), "parameters")
        # The parameters of all models, the more specific first.
        self._fallback = (document.module, self._parameters) if document.module else (self._parameters,)
        self._method = str(content["merge_method"]) if "merge_method" in content else ""
        self._base = one_base(content, document.place)

    def recipe(self) -> Recipe:
        self._refuse_unknown()
        try:
            segments = read_segments(self._content)
        except RecipeError as error:
            raise RecipeError(f"{self._place}{error}") from None
        models = self._models(segments)
        names = _names([model for model, _ in models])
        sources = dict(zip(models, names, strict=True))
        groups: Any = WHOLE
        parameters: dict[str, Any] = {}
        if self._row.weighted:
            base = self._base if self._method == "slerp" else None
            scoped = self._scoped(segments)
            groups, parameters = read_parameters(scoped, sources, self._layers, self._tensors, slerp_base=base)
        elif self._method != "passthrough" and self._content.get("slices"):
            refuse_other_slices(segments, sources, self._layers)
            groups = whole_groups(sum(segment.length or 0 for segment in segments), self._tensors())
        content: dict[str, Any] = {
            "kind": "llm",
            "sources": [_entry(model, revision) | {"name": name} for (model, revision), name in sources.items()],
            "method": self._method,
            "options": self._options(segments),
            "groups": groups,
            "parameters": parameters,
            "dtype": self._dtype(models),
        }
        if self._method == "passthrough":
            content["slices"] = self._stack(segments, sources)
            # In mergekit, the base of a stack only provides configuration and tokenizer.
            content["owner"] = names[0] if self._base is None else sources.get(self._base)
        if self._base is not None and content.get("owner") is None:
            content["base"] = _entry(*self._base)
        return Recipe.model_validate(content | self._vocabulary(sources))

    @property
    def _row(self) -> Method:
        return METHODS[self._method]

    def _refuse_unknown(self) -> None:
        if self._method not in (both := shared_methods()):
            raise RecipeError(f"merge_method: {self._method!r} is not supported; choose one that both have: {both}")
        names = known_parameters(self._method)
        for scope in self._fallback:
            place = "parameters" if scope is self._parameters else f"{self._place}parameters"
            for name in scope:
                if name in IGNORED:
                    log.warning("%s.%s is ignored: %s", place, name, IGNORED[name])
                elif name not in names:
                    known = sorted(names)
                    raise RecipeError(f"{place}.{name}: unknown parameter; correct or remove it; evovlm has {known}")

    def _models(self, segments: list[Segment]) -> list[Model]:
        """The models that are merged, in order. mergekit adds the base if it is not listed."""
        models = list(dict.fromkeys(model for segment in segments for model in segment.scopes))
        if len(models) > MOST_SOURCES:
            raise RecipeError(f"models: {len(models)} models; give at most {MOST_SOURCES}")
        if (self._row.needs_base or self._method == "slerp") and self._base is None:
            raise RecipeError(f"base_model: missing; {self._method} needs it")
        if self._base is None or self._method == "passthrough":
            return models
        if takes_part(self._row):
            added = [] if self._base in models or self._content.get("slices") else [self._base]
            models = [*models, *added]
        else:
            models = [model for model in models if model != self._base]
        if not self._row.takes(len(models)):
            raise RecipeError(f"models: {self._method} cannot merge {len(models)} models")
        return models

    def _scoped(self, segments: list[Segment]) -> list[Segment]:
        """Segments with the module's and the file's parameters as every model's fallback."""
        base = None if self._content.get("slices") else self._base
        return [segment.with_fallback(self._fallback, base) for segment in segments]

    def _layers(self) -> int | None:
        """The number of layers of the first model whose config.json is on this machine; None if there is none."""
        for config in self._configs():
            inner = config.get("text_config")
            depth = (inner if isinstance(inner, dict) else config).get("num_hidden_layers")
            if isinstance(depth, int) and 1 <= depth <= MOST_LAYERS:
                return depth
        return None

    def _tensors(self) -> list[str]:
        """The canonical names of a tower's tensors, of the first model that is on this machine; else none."""
        for folder in self._folders():
            try:
                keys = Checkpoint.open(folder).keys()
                layout = detect_layout(keys, folder)
            except UserError:
                continue
            return [name for key in keys if (name := layout.canonical(key)) is not None]
        return []

    def _configs(self) -> list[dict[str, Any]]:
        found = []
        for folder in self._folders():
            with suppress(UserError):
                found.append(read_config(folder))
        return found

    def _folders(self) -> Iterator[Path]:
        """The folders of the models that are on this machine, the base's first."""
        known = [model for segment in read_segments(self._content) for model in segment.scopes]
        for model, revision in [*([self._base] if self._base else []), *known]:
            with suppress(UserError):
                yield resolve_folder(model, revision, self._root)

    def _options(self, segments: list[Segment]) -> dict[str, Any]:
        def of_merge(name: str) -> Any:
            return self._same(name, [[segment.shared, *self._fallback] for segment in segments])

        own = self._row.mergekit or {}

        def of_models(name: str) -> Any:
            scopes = [
                [scope, segment.shared, *self._fallback]
                for segment in segments
                for model, scope in segment.scopes.items()
                if model != self._base
            ]
            return self._same(name, scopes)

        found: dict[str, Any] = {
            ours: own_value(self._row, ours, of_models(theirs), theirs) for theirs, ours in own.items()
        }
        for theirs, ours in own.items():
            if found[ours] is None and REQUIRED.get(self._method) == theirs:
                whose = next(name_of(model) for segment in segments for model in segment.scopes if model != self._base)
                raise Unset(theirs, whose, f"missing; mergekit's {self._method} needs it; give it a value")
        if "normalize" not in own:
            found["normalize"] = flag(of_merge("normalize"), "normalize")
        if "rescale" not in own and (rescale := flag(of_merge("rescale"), "rescale")) is not None:
            found["rescale"] = "l1" if rescale else "none"
        if "lambda" not in own and (factor := of_merge("lambda")) is not None:
            found["lambda"] = number(factor, "lambda")
        if "filter_wise" not in own and flag(of_merge("filter_wise"), "filter_wise"):
            raise RecipeError("parameters.filter_wise: evovlm's model_stock has one ratio per tensor; remove the key")
        for name in ("epsilon", "gamma"):
            if name not in own and (given := of_models(name)) is not None:
                found[name] = number(given, name)
        return {name: value for name, value in found.items() if value is not None or name == "normalize"}

    def _same(self, name: str, levels: list[list[Scope]]) -> Any:
        """A parameter's value, which must be the same for all slices and models; None if it is not given."""
        found = [constant(scopes, name) for scopes in levels]
        if any(value != found[0] for value in found):
            raise RecipeError(f"parameters.{name}: differs between slices or models; evovlm has one {name} per merge")
        return found[0] if found else None

    def _dtype(self, models: list[Model]) -> str:
        for key in ("out_dtype", "dtype"):
            if self._content.get(key) is not None:
                return str(self._content[key]).removeprefix("torch.")
        for config in self._configs():
            stored = config.get("dtype") or config.get("torch_dtype")
            if stored is not None:
                return str(stored)
        raise RecipeError("dtype: missing, and no model is on this machine to take it from; set `dtype`")

    def _folder(self, model: Model) -> Path:
        return resolve_folder(*model, self._root)

    def _vocabulary(self, sources: dict[Model, str]) -> dict[str, Any]:
        """Whose rows, tokens and chat template the output has."""
        found = read_vocabulary_keys(self._content, sources, self._base, self._folder)
        owner = next((model for model, name in sources.items() if name == found.get("owner")), None)
        owner = owner or self._base or next(iter(sources))
        listed = [*sources, *([self._base] if self._base is not None else [])]
        template = read_chat_template(self._content.get("chat_template"), listed, owner, self._folder)
        return found if template is None else found | {"chat_template": template}

    def _stack(self, segments: list[Segment], sources: dict[Model, str]) -> list[Slice]:
        scopes = [scope for segment in segments for scope in (*segment.scopes.values(), segment.shared)]
        if any("scale" in scope for scope in (*scopes, *self._fallback)):
            raise RecipeError("parameters.scale: evovlm's passthrough copies layers unscaled; remove the key")
        stack = []
        for segment in segments:
            if len(segment.scopes) != 1:
                raise RecipeError("slices: passthrough takes one source per slice")
            (model,) = segment.scopes
            if segment.starts[model] is not None and segment.length is not None:
                start = segment.starts[model] or 0
                stack.append(Slice(source=sources[model], layers=(start, start + segment.length)))
        return stack


def _entry(model: str, revision: str | None) -> dict[str, Any]:
    return {"model": model, "revision": revision}


def _names(models: list[str]) -> list[str]:
    """One name per source: the last part of its path, made unique."""
    names: list[str] = []
    for model in models:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", model.rstrip("/").replace(":", "/").rsplit("/", 1)[-1]).lstrip("._-")
        name, number_ = plain or "source", 2
        while name in names:
            name, number_ = f"{plain}-{number_}", number_ + 1
        names.append(name)
    return names
