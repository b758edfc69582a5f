"""What a worker far away is told: the recipe by value, where its models and items come from, what they must be.

Knows assemblies, tasks and hashes; no cluster. Sources are resolved where the worker runs (hub cache, zoo, or the same
path), so no shared file system is needed; models or items that differ from the study's are refused.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from evovlm.evaluators.cache import CarriedAnswers
from evovlm.evaluators.cached_pool import Request, Response
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.question import LocalAnswers, Question
from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.live.choose import Keeping
from evovlm.merging.live.placement import AUTO
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import StudyError
from evovlm.system.plugins import load_plugins
from evovlm.tasks import Item, Options
from evovlm.tasks.item_sets import read_item_set

CHUNK = 1 << 24


@dataclass(frozen=True)
class RemoteJob:
    """All that a worker needs to become an evaluator of a study's candidates."""

    recipe: str  # JSON
    root: str
    item_ids: tuple[str, ...]
    items_hash: str
    hashes: Mapping[str, str]  # model label -> hash of its files, as the study's process has them
    device: str
    threads: int
    download: bool
    caching: bool = True  # whether the driver keeps answers
    sources_in: str = AUTO
    eight_bit: bool = False

    def open(self) -> RemoteJudge:
        """Load the models and prepare the items here. Raises StudyError where they are not the study's."""
        load_plugins()
        recipe = Recipe.model_validate_json(self.recipe)
        search = recipe.search
        assert search is not None
        assembly = assemble(recipe, Path(self.root), download=self.download)
        refuse_other_models(self.hashes, hashes_of(assembly))
        assert recipe.data is not None
        options = Options(preset=recipe.data.preset, download=self.download)
        whole = read_item_set(
            "search", recipe.data.search, search.items, search.seed, options=options, root=Path(self.root)
        )
        # Those that the study left out, for they look like items that judge it, are left out here too.
        found = {item.id: item for item in whole}
        items = whole.of(found[name] for name in self.item_ids if name in found)
        if len(items) < len(self.item_ids) or items_hash(items) != self.items_hash:
            raise StudyError(
                f"{platform.node()}: {recipe.data.search} gives other items than the study has; have the same data and"
                " version of evovlm on every node"
            )
        carried = CarriedAnswers()
        evaluator = LocalEvaluator(
            assembly,
            batch=search.batch,
            device=self.device,
            threads=self.threads or None,
            keeping=Keeping(self.sources_in, self.eight_bit),
            cache=carried if self.caching else None,
        )
        return RemoteJudge(LocalAnswers(evaluator, recipe, items), carried)


class RemoteJudge:
    """Answers errands: what is known of the candidate came along, what is made goes back."""

    def __init__(self, answers: LocalAnswers, carried: CarriedAnswers) -> None:
        self._answers, self._carried = answers, carried

    def __call__(self, request: Request) -> Response:
        """One evaluation, and the answers that it took. Raises what evaluators raise."""
        self._carried.load(request.known)
        question = Question(Recipe.model_validate_json(request.recipe), request.places, request.cheap)
        evaluation = self._answers.answer(question)
        return Response(evaluation, tuple(self._carried.made))


def hashes_of(assembly: Assembly) -> dict[str, str]:
    """A hash of each model's weights and JSON files, by its name in the recipe: 32 hexadecimal digits."""
    models = {model.label: model.folder for model in assembly.sources.values()}
    if assembly.base is not None:
        models[assembly.base.label] = assembly.base.folder
    return {label: folder_hash(folder) for label, folder in sorted(models.items())}


def items_hash(items: Sequence[Item]) -> str:
    """A hash of items' ids, questions and references: 32 hexadecimal digits."""
    text = repr([(item.id, item.question, tuple(item.references)) for item in items])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def folder_hash(folder: Path) -> str:
    """A hash of the names and bytes of a model's weights and JSON files; read in pieces."""
    found = blake2b(digest_size=16)
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("tokenizer.model")]):
        found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                found.update(piece)
    return found.hexdigest()


def refuse_other_models(known: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raises StudyError that names the first model whose files differ between the study's process and this one."""
    for label, digest in known.items():
        if here.get(label) != digest:
            raise StudyError(
                f"{platform.node()}: the files of `{label}` differ from those of the study's process"
                f" ({here.get(label)} here, {digest} there); fetch the same revision on every node"
            )
