"""Read mergekit's YAML (0.1.x) into a recipe.

Knows mergekit's keys and their meaning; merges nothing. If a setting depends on the model's depth or dtype and the
file does not give it, the model's `config.json` is read, if it is on this machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evovlm.models.checkpoint import Checkpoint
from evovlm.models.configuration import read_config
from evovlm.models.layouts import detect_layout
from evovlm.models.open_model import resolve_folder
from evovlm.recipe.limits import MOST_LAYERS, MOST_SOURCES
from evovlm.recipe.mergekit._settings import IGNORED, PER_MODEL, WHOLE_MERGE, flag, mapping, number
from evovlm.recipe.mergekit._slices import Segment, name_of, parse_model, read_parameters, read_segments
from evovlm.recipe.schema import WHOLE, Recipe, Slice
from evovlm.system.bounded_yaml import Parsed, YamlFault, parse_yaml, place_of
from evovlm.system.errors import RecipeError, UserError

SHARED = [
    *("linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "della", "della_linear"),
    *("breadcrumbs", "breadcrumbs_ties", "model_stock", "passthrough"),
]
KEYS = {
    *("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "modules"),
}
# Methods whose base is one of the inputs, not the base of task vectors.
BASE_TAKES_PART = ("linear", "slerp")
log = logging.getLogger(__name__)


def looks_like_mergekit(content: Mapping[str, Any]) -> bool:
    """Whether a YAML mapping is a mergekit configuration rather than an evovlm recipe."""
    return "merge_method" in content


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
        return _Reader(parsed.content, path.parent if path is not None else Path()).recipe()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RecipeError(f"{path or 'mergekit YAML'}: {where}: {first['msg']}") from None
    except RecipeError as error:
        raise RecipeError(f"{_where(parsed, path, str(error))}: {error}") from None


def _where(parsed: Parsed, path: Path | None, told: str) -> str:
    """The file, with the line of the key that an error starts with, such as `slices.0.sources: ...`."""
    if path is None or parsed.root is None:
        return str(path or "mergekit YAML")
    keys = told.partition(":")[0].split(",")[0].split(".")
    line, found = place_of(parsed.root, tuple(int(key) if key.isdecimal() else key for key in keys))
    return f"{path}:{line}" if found else str(path)


class _Reader:
    """One file's content and what was parsed from it."""

    def __init__(self, content: dict[str, Any], root: Path) -> None:
        self._content = content
        self._root = root
        self._parameters = mapping(content.get("parameters"), "parameters")
        self._tokenizer = mapping(content.get("tokenizer"), "tokenizer")
        self._method = str(content["merge_method"]) if "merge_method" in content else ""
        base = content.get("base_model")
        self._base = parse_model(base, "base_model") if base is not None else None

    def recipe(self) -> Recipe:
        self._refuse_unknown()
        segments = read_segments(self._content)
        models = self._models(segments)
        names = _names([model for model, _ in models])
        sources = dict(zip(models, names, strict=True))
        groups: Any = WHOLE
        parameters: dict[str, Any] = {}
        if self._method not in ("passthrough", "model_stock"):
            base = self._base if self._method == "slerp" else None
            scoped = self._scoped(segments)
            groups, parameters = read_parameters(scoped, sources, self._layers, self._tensors, slerp_base=base)
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

    def _refuse_unknown(self) -> None:
        for key, value in self._content.items():
            if key not in KEYS:
                raise RecipeError(f"{key}: unknown key; mergekit has {sorted(KEYS)}")
            if key == "modules":
                raise RecipeError("modules: multi-module models are not supported; write a recipe of kind `vlm`")
            if key == "chat_template" and value is not None:
                raise RecipeError(
                    "chat_template: evovlm copies the chat template of the model that the tokenizer comes from;"
                    " remove the key"
                )
        if self._method not in SHARED:
            raise RecipeError(f"merge_method: {self._method!r} is not supported; choose one that both have: {SHARED}")
        for name in self._parameters:
            if name in IGNORED:
                log.warning("parameters.%s is ignored: %s", name, IGNORED[name])
            elif name not in PER_MODEL | WHOLE_MERGE:
                known = sorted(PER_MODEL | WHOLE_MERGE)
                raise RecipeError(f"parameters.{name}: unknown parameter; evovlm has {known}")
        if flag(self._parameters, "filter_wise"):
            raise RecipeError("parameters.filter_wise: evovlm's model_stock has one ratio per tensor; remove the key")

    def _models(self, segments: list[Segment]) -> list[tuple[str, str | None]]:
        """The models that are merged, in order. mergekit adds the base if it is not listed."""
        models = list(dict.fromkeys(model for segment in segments for model in segment.scopes))
        if len(models) > MOST_SOURCES:
            raise RecipeError(f"models: {len(models)} models; give at most {MOST_SOURCES}")
        needs_base = self._method not in ("linear", "passthrough")
        if needs_base and self._base is None:
            raise RecipeError(f"base_model: missing; {self._method} needs it")
        if self._base is None or self._method == "passthrough":
            return models
        if self._method in BASE_TAKES_PART:
            added = [] if self._base in models or self._content.get("slices") else [self._base]
            models = [*models, *added]
        else:
            models = [model for model in models if model != self._base]
        least, most = {"slerp": (2, 2), "model_stock": (2, None)}.get(self._method, (1, None))
        if len(models) < least or (most is not None and len(models) > most):
            raise RecipeError(f"models: {self._method} cannot merge {len(models)} models")
        return models

    def _scoped(self, segments: list[Segment]) -> list[Segment]:
        """Segments with the file's global parameters as every model's fallback."""
        base = None if self._content.get("slices") else self._base
        return [segment.with_fallback(self._parameters, base) for segment in segments]

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
        options: dict[str, Any] = {"normalize": flag(self._parameters, "normalize")}
        rescale = flag(self._parameters, "rescale")
        if rescale is not None:
            options["rescale"] = "l1" if rescale else "none"
        if "lambda" in self._parameters:
            options["lambda"] = number(self._parameters["lambda"], "lambda")
        for name in ("epsilon", "gamma"):
            scopes = [own for segment in segments for own in (*segment.scopes.values(), segment.shared)]
            given = {number(scope[name], name) for scope in (*scopes, self._parameters) if name in scope}
            if len(given) > 1:
                raise RecipeError(f"parameters.{name}: differs between models; evovlm has one {name} per merge")
            if given:
                options[name] = given.pop()
        return options

    def _dtype(self, models: list[tuple[str, str | None]]) -> str:
        for key in ("out_dtype", "dtype"):
            if self._content.get(key) is not None:
                return str(self._content[key]).removeprefix("torch.")
        for config in self._configs():
            stored = config.get("dtype") or config.get("torch_dtype")
            if stored is not None:
                return str(stored)
        raise RecipeError("dtype: missing, and no model is on this machine to take it from; set `dtype`")

    def _vocabulary(self, sources: dict[tuple[str, str | None], str]) -> dict[str, Any]:
        """From tokenizer_source or tokenizer.source: whose rows the output has. Without it, vocabularies must agree."""
        key, source = "tokenizer_source", self._content.get("tokenizer_source")
        if self._content.get("tokenizer") is not None:
            key, source = "tokenizer.source", self._tokenizer.get("source", "union")
            for other, value in self._tokenizer.items():
                if other != "source" and value:
                    raise RecipeError(f"tokenizer.{other}: evovlm does not change tokens; remove the key")
        if source is None:
            return {"vocab": "same"}
        if source == "union":
            raise RecipeError(
                f"{key}: union adds tokens, which evovlm cannot do; name the model whose tokenizer the output gets"
            )
        if source == "base":
            if self._base is None:
                raise RecipeError(f"{key}: is base, but there is no base_model")
            return {"vocab": "match"}
        model = parse_model(source, key)
        if model == self._base:
            return {"vocab": "match"}
        if model not in sources:
            raise RecipeError(f"{key}: {name_of(model)} is not one of the merged models")
        return {"vocab": "match", "owner": sources[model]}

    def _stack(self, segments: list[Segment], sources: dict[tuple[str, str | None], str]) -> list[Slice]:
        if any("scale" in scope for segment in segments for scope in (*segment.scopes.values(), self._parameters)):
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
