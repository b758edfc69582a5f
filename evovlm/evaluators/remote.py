"""The job sent to a remote worker: the recipe by value, where models and items come from, and their hashes.

Knows assemblies, tasks and hashes; no cluster. Sources are resolved where the worker runs (hub cache, zoo, or the same
path), so no shared file system is needed; models or items that differ from the study's are rejected.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evovlm.evaluators.cache import CarriedAnswers
from evovlm.evaluators.cached_pool import Request, Response
from evovlm.evaluators.local import LocalEvaluator
from evovlm.evaluators.objectives import objective_items
from evovlm.evaluators.question import LocalAnswers, Question
from evovlm.merging.assembly import Assembly, assemble
from evovlm.merging.live.choose import Keeping
from evovlm.merging.live.placement import AUTO
from evovlm.models.file_hashes import Hashing
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import StudyError
from evovlm.system.plugins import load_plugins
from evovlm.tasks.item_sets import data_options, items_hash, read_item_set


@dataclass(frozen=True)
class RemoteJob:
    """Everything that a worker needs to evaluate a study's candidates."""

    recipe: str  # JSON
    root: str
    item_ids: tuple[str, ...]
    item_keys: tuple[str, ...]  # under which answers are cached
    items_hash: str
    hashes: Mapping[str, str]  # as `hashing` names them: the models' files in the study's process
    device: str
    threads: int
    download: bool
    caching: bool = True  # whether the driver keeps answers
    sources_in: str = AUTO
    eight_bit: bool = False
    self_check: bool = True

    def open(self) -> RemoteJudge:
        """Load the models and prepare the items on this machine. Raises StudyError if they differ from the study's."""
        load_plugins()
        recipe = Recipe.model_validate_json(self.recipe)
        search = recipe.search
        assert search is not None
        assembly = assemble(recipe, Path(self.root), download=self.download)
        refuse_other_models(self.hashes, hashing(assembly).result())
        assert recipe.data is not None
        options = data_options(recipe, download=self.download)
        whole = read_item_set(
            "search", recipe.data.search, search.items, search.seed, options=options, root=Path(self.root)
        )
        # Also leave out the items that the study left out because they look like its validation or test items.
        found = {item.id: item for item in whole}
        items = whole.of(found[name] for name in self.item_ids if name in found)
        if len(items) < len(self.item_ids) or items_hash(items) != self.items_hash:
            raise StudyError(
                f"{platform.node()}: the items of {recipe.data.search} differ from the study's; use the same data and"
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
            self_check=self.self_check,
        )
        objectives = objective_items(recipe, Path(self.root), len(items), download=self.download)
        return RemoteJudge(LocalAnswers(evaluator, recipe, items, objectives), carried)


class RemoteJudge:
    """Evaluates requests: known answers come with the request, new ones are returned in the response."""

    def __init__(self, answers: LocalAnswers, carried: CarriedAnswers) -> None:
        self._answers, self._carried = answers, carried

    def __call__(self, request: Request) -> Response:
        """Return one evaluation and the new answers. Raises the same errors as `LocalEvaluator.evaluate`."""
        self._carried.load(request.known)
        question = Question(Recipe.model_validate_json(request.recipe), request.places, request.cheap)
        evaluation = self._answers.answer(question)
        return Response(evaluation, tuple(self._carried.made))


def hashing(assembly: Assembly) -> Hashing:
    """Start to hash the files of a recipe's models: by `base` and `sources.NAME`."""
    folders = {f"sources.{name}": model.folder for name, model in assembly.sources.items()}
    if assembly.base is not None:
        folders = {"base": assembly.base.folder} | folders
    return Hashing(folders)


def refuse_other_models(known: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raise StudyError naming the first model whose files here differ from those in the study's process."""
    for label, digest in known.items():
        if here.get(label) != digest:
            raise StudyError(
                f"{platform.node()}: the files of `{label}` differ from those of the study's process"
                f" (hash {here.get(label)} here, {digest} there); use the same revision on every node"
            )
