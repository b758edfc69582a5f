"""Which of mergekit's configuration files a YAML mapping is, and its one module as if it were the whole.

Knows the keys at the top; neither models nor parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evovlm.recipe.mergekit._settings import Scope, mapping
from evovlm.system.errors import RecipeError

KEYS = {
    *("merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "name"),
}
MODULE_KEYS = {"models", "slices", "parameters", "base_model"}
# Files of mergekit's other programs, by a key that only they have.
MIXTURE = (
    "a mixture of experts for mergekit-moe, which evovlm does not build; run mergekit-moe on it, or write a merge of"
    " its models with `merge_method`"
)
OTHERS = {
    "experts": MIXTURE,
    "gate_mode": MIXTURE,
    "genome": (
        "a search for mergekit-evolve; write its models as an evovlm recipe with `search` and `data` (`evovlm recipe"
        " show zoo-llm` prints one to start from)"
    ),
}


def looks_like_mergekit(content: Mapping[str, Any]) -> bool:
    """Whether a YAML mapping is a mergekit configuration rather than an evovlm recipe."""
    return "merge_method" in content or "modules" in content or any(key in content for key in OTHERS)


def refuse_other_programs(content: Mapping[str, Any]) -> None:
    """Raise RecipeError, in one sentence, for a file of mergekit-moe or mergekit-evolve."""
    for key, text in OTHERS.items():
        if key in content and key not in KEYS:
            raise RecipeError(f"{key}: this file describes {text}")


@dataclass(frozen=True)
class Document:
    """A file with its module, if it has one, put in the place of the whole.

    `content`: with `models` or `slices` at the top. `module`: the module's own parameters. `place`: what the keys of
    `models` and `slices` are preceded by in the file.
    """

    content: dict[str, Any]
    module: Scope
    place: str = ""


def read_document(content: dict[str, Any]) -> Document:
    """Check the keys at the top, and take the one module that the file may have. Raises RecipeError, naming the key."""
    for key in content:
        if key not in KEYS:
            raise RecipeError(f"{key}: unknown key; correct or remove it; mergekit has {sorted(KEYS)}")
    if content.get("modules") is None:
        return Document(content, {})
    modules = mapping(content["modules"], "modules")
    if content.get("models") or content.get("slices"):
        raise RecipeError("modules: give one of models, slices and modules")
    if len(modules) != 1:
        raise RecipeError(
            f"modules: {len(modules)} modules ({', '.join(map(str, modules))}); evovlm reads one. To merge the language"
            " towers of vision-language models, write a recipe of kind `vlm`"
        )
    name, inner = next(iter(modules.items()))
    place = f"modules.{name}"
    module = mapping(inner, place)
    for key in module:
        if key not in MODULE_KEYS:
            raise RecipeError(f"{place}.{key}: unknown key; correct or remove it; a module has {sorted(MODULE_KEYS)}")
    whole = {key: value for key, value in content.items() if key != "modules"}
    whole |= {key: module[key] for key in ("models", "slices", "base_model") if module.get(key) is not None}
    return Document(whole, mapping(module.get("parameters"), f"{place}.parameters"), f"{place}.")
