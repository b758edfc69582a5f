"""The model card: what a merged checkpoint is made of, how to load and rebuild it, and its limits.

Knows the recipe and the facts passed in; opens no models and writes no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from evovlm.models.open_model import HUB_ID
from evovlm.recipe.schema import Recipe
from evovlm.recipe.yaml_file import recipe_text
from evovlm.system.hub_cache import Origin

TASKS = {"vlm": "image-text-to-text", "llm": "text-generation"}
LOADING = {
    "vlm": (
        "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        'processor = AutoProcessor.from_pretrained("FOLDER")\n'
        'model = AutoModelForImageTextToText.from_pretrained("FOLDER", dtype="auto")\n'
    ),
    "llm": (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="auto")\n'
    ),
}
LIMITS = """\
A merge inherits the weaknesses of its sources along with their strengths:

- **Inherited faults.** The biases, false beliefs and unsafe answers of every source may appear, also in combinations
  that no single source shows.
- **No alignment.** Nothing was trained after the merge. It may weaken or undo the safety training of a source; test the
  model before you let people use it.
- **Narrow evaluation.** Measurements, if any, are listed above. A score on one task says little about others, and the
  winner of a search was selected for its high score: expect lower scores on other data.
- **Licences.** The terms of every source still apply to the merge.
"""


@dataclass(frozen=True)
class CardFacts:
    """What the card reports beyond the recipe.

    `digest`: the recipe's. `version`: evovlm's. `licences`: by model label (the base's, or a source's name); None if
    unknown. `origins`: by label, where those models that come from the hub come from; None if that is known by their
    names alone. `warnings`: findings of the check. `evaluation`: measurements, in Markdown; empty if there are none.
    """

    digest: str
    version: str
    licences: Mapping[str, str | None] = field(default_factory=dict)
    origins: Mapping[str, Origin] | None = None
    warnings: tuple[str, ...] = ()
    evaluation: str = ""


def model_card(recipe: Recipe, facts: CardFacts) -> str:
    """Return the text of README.md for the merged checkpoint: Hugging Face front matter, then Markdown sections."""
    parts = [
        f"---\n{_front_matter(recipe, facts)}---\n",
        f"# {_title(recipe)}\n\n{_opening(recipe, facts)}\n",
        f"## Sources\n\n{_sources(recipe, facts)}\n",
        f"## Use\n\n```python\n{LOADING[recipe.kind]}```\n",
        f"## Rebuild\n\n{_rebuild(recipe)}\n",
    ]
    if facts.warnings:
        parts.append(f"## Warnings\n\n{_bullets(facts.warnings)}\n")
    if facts.evaluation:
        parts.append(f"## Evaluation\n\n{facts.evaluation}\n")
    parts.append(f"## Limits\n\n{LIMITS}")
    return "\n".join(parts)


def with_evaluation(card: str, evaluation: str) -> str:
    """A card of `model_card`, with other measurements; unchanged if it has no such section."""
    before, begin, rest = card.partition("## Evaluation\n\n")
    _, end, after = rest.partition("\n## Limits\n")
    return f"{before}{begin}{evaluation}\n{end}{after}" if end else card


def shared_licence(recipe: Recipe, licences: Mapping[str, str | None]) -> str | None:
    """Return the licence that all models of the recipe share, or None if they differ or one is unknown."""
    named = {licences.get(label) for label, _, _ in _models(recipe)}
    return named.pop() if len(named) == 1 else None


def _front_matter(recipe: Recipe, facts: CardFacts) -> str:
    # The hub accepts only its own ids as base models, so local folders are named only in the text.
    named = (_on_hub(label, model, facts) for label, model, _ in _models(recipe))
    hub = list(dict.fromkeys(name for name in named if name is not None))
    content: dict[str, Any] = {}
    if hub:
        content |= {"base_model": hub, "base_model_relation": "merge"}
    content |= {"library_name": "transformers", "pipeline_tag": TASKS[recipe.kind]}
    licence = shared_licence(recipe, facts.licences)
    content |= {"license": licence} if licence else {"license": "other", "license_name": "see-sources"}
    content["tags"] = ["merge", "evovlm", recipe.method]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _title(recipe: Recipe) -> str:
    return " + ".join(_short(source.model) for source in recipe.sources)


def _opening(recipe: Recipe, facts: CardFacts) -> str:
    made = {
        "vlm": "A vision-language model whose language tower is a merge; its vision tower and projector are"
        f" those of `{recipe.owner}`, unchanged.",
        "llm": "A language model made by merging.",
    }[recipe.kind]
    if recipe.vision == "merged":
        made = "A vision-language model made by merging; its vision tower and projector are merged too."
    return (
        f"{made} Made with evovlm {facts.version}, without training: method `{recipe.method}`, {recipe.dtype},"
        f" recipe `{facts.digest}`."
    )


def _sources(recipe: Recipe, facts: CardFacts) -> str:
    lines = ["| name | model | revision | licence |", "|---|---|---|---|"]
    for label, model, revision in _models(recipe):
        name = "base of the task vectors" if label == recipe.base_label and recipe.base is not None else f"`{label}`"
        hub, origin = _on_hub(label, model, facts), (facts.origins or {}).get(label)
        shown = f"[{hub}](https://huggingface.co/{hub})" if hub is not None else f"`{_short(model)}`"
        fixed = revision or (f"{origin.commit}, converted" if origin is not None else "not pinned")
        lines.append(f"| {name} | {shown} | {fixed} | {facts.licences.get(label) or 'unknown'} |")
    licence = shared_licence(recipe, facts.licences)
    told = (
        f"All models above are under the licence `{licence}`."
        if licence
        else "The licences above differ or are not all known: read each source's terms before you use or share this"
        " model."
    )
    return "\n".join(lines) + f"\n\n{told}"


def _rebuild(recipe: Recipe) -> str:
    return (
        "`recipe.yaml` in this folder describes the whole merge; the same recipe gives the same weights on any\n"
        "machine, provided that the revisions are pinned:\n\n"
        "```sh\nevovlm merge recipe.yaml OUT\n```\n\n"
        f"```yaml\n{recipe_text(recipe)}```"
    )


def _on_hub(label: str, model: str, facts: CardFacts) -> str | None:
    """The repository on the hub that a model comes from; None for a folder of this machine."""
    if facts.origins is None:
        return model if HUB_ID.fullmatch(model) else None
    origin = facts.origins.get(label)
    return None if origin is None else origin.repository


def _models(recipe: Recipe) -> Iterator[tuple[str, str, str | None]]:
    """Yield (label, model, revision), the base first."""
    if recipe.base is not None:
        yield recipe.base_label, recipe.base.model, recipe.base.revision
    for source in recipe.sources:
        yield source.name, source.model, source.revision


def _short(model: str) -> str:
    """The last part of a hub id or folder: paths on this machine should not be published."""
    return model.rstrip("/").rsplit("/", 1)[-1].removeprefix("zoo:")


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)
