"""Assembly: a recipe with its models opened, and the inputs of each output tensor.

Knows recipes, open models and row matches; does no arithmetic beyond calling the merge rule, writes no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from evovlm.merging._folding import fold
from evovlm.merging._norm_offsets import norm_offset
from evovlm.merging.check import Finding, check_recipe
from evovlm.merging.tensor_jobs import Job, count_layers, jobs_of, route_jobs
from evovlm.merging.vector_files import Ask, VectorFiles
from evovlm.methods import METHODS, MergeOptions, Operand, Tables, blaming_plugins, merge_tensor, resolve_options
from evovlm.methods.draws import Draws
from evovlm.models.file_spans import FileSpan
from evovlm.models.layouts import EMBEDDING, OUTPUT_HEAD, VOCABULARY_TENSORS
from evovlm.models.open_model import HUB_ID, OpenModel, open_model, with_vision
from evovlm.models.surroundings import differing_file
from evovlm.models.vocabulary import RowMatch, match_rows
from evovlm.recipe.pinning import models_of, pinned
from evovlm.recipe.schema import Base, Recipe, Source, value_at
from evovlm.system.errors import CheckpointError, RecipeError, joined_errors
from evovlm.system.files import counted_from

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Assembly:
    """Opened models and the list of tensors to merge. To change weights or densities, see `with_recipe`."""

    recipe: Recipe
    root: Path  # the recipe's relative model paths are resolved against it
    base: OpenModel | None
    sources: Mapping[str, OpenModel]
    owner: OpenModel
    jobs: tuple[Job, ...]
    copied: tuple[str, ...]  # the owner's keys outside the tower: vision tower, projector, newline
    rows: Mapping[str, RowMatch]  # by model label: which of its rows match the output's vocabulary rows
    findings: tuple[Finding, ...]
    # Where prepared task vectors are kept; None: they are made for each merge.
    vectors: VectorFiles | None = field(default=None, kw_only=True)

    @property
    def layers(self) -> int:
        """Number of layers in the output's language tower."""
        return count_layers(job.name for job in self.jobs)

    @property
    def commits(self) -> dict[str, str]:
        """The commit of each model that came from the hub, by its key in the recipe (`sources.ja`)."""
        opened = {} if self.base is None else {"base": self.base}
        opened |= {f"sources.{name}": model for name, model in self.sources.items()}
        return {key: model.origin.commit for key, model in opened.items() if model.origin is not None}

    @property
    def pinned(self) -> Recipe:
        """The recipe with the opened commit as the revision of each model from the hub."""
        commits = self.commits
        # A converted copy has a commit too, but is named by its folder, which has no revisions.
        found = {name: commits[key] for key, name in models_of(self.recipe) if key in commits and self._of_hub(name[0])}
        return pinned(self.recipe, found, {})

    def _of_hub(self, model: str) -> bool:
        """Whether a recipe's name for a model was looked up on the hub; `models/mine` may be a folder as well."""
        return HUB_ID.fullmatch(model) is not None and not counted_from(self.root, model).is_dir()

    @cached_property
    def options(self) -> MergeOptions:
        """The method's options, with defaults filled in."""
        given = self.recipe.options
        return resolve_options(
            self.recipe.method, given.normalize, given.rescale, given.lambda_, given.epsilon, given.gamma, given.own
        )

    @property
    def reads_base(self) -> bool:
        """Whether the method works on differences from the base: it needs one, or uses one that is given."""
        return METHODS[self.recipe.method].reads_base(given=self.base is not None)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the merged weights."""
        return DTYPES[self.recipe.dtype]

    def base_tensor(self, job: Job) -> Tensor | None:
        """Return the base's tensor for a job, with vocabulary rows in the output's order; None without a base."""
        if self.base is None:
            return None
        tensor = tower_tensor(self.base, job.name)
        if job.name not in VOCABULARY_TENSORS:
            return tensor
        return _align(tensor, self._match(self.base, job), lambda: tower_tensor(self.owner, job.name))

    def source_tensor(self, job: Job, source: str, name: str, base: Tensor | None) -> Tensor:
        """Return a source's tensor for a job, with vocabulary rows in the output's order.

        `name`: its canonical name in the source. A vocabulary row missing from the source or from the base is filled
        so that it adds nothing to the merge.
        """
        model = self.sources[source]
        tensor = tower_tensor(model, name)
        if job.name not in VOCABULARY_TENSORS:
            return tensor
        match = self._match(model, job)
        if base is not None and self.base is not None and not self._match(self.base, job).identity:
            unknown = self._match(self.base, job).rows < 0
            rows = torch.where(unknown, torch.full_like(match.rows, -1), match.rows)
            match = RowMatch(rows=rows, missing=match.missing, extra=match.extra, identity=False)
        return _align(tensor, match, lambda: base if base is not None else tower_tensor(self.owner, job.name))

    def filled_rows(self, job: Job, source: str) -> Tensor | None:
        """Vocabulary rows (int64) of a source's tensor that depend on whether the merge has a base; None if none do."""
        if self.base is None or job.name not in VOCABULARY_TENSORS:
            return None
        lacking = (self._match(self.sources[source], job).rows < 0) | (self._match(self.base, job).rows < 0)
        return lacking.nonzero().flatten() if bool(lacking.any()) else None

    def unmerged_tensor(self, job: Job, label: str) -> Tensor:
        """Return the tensor that a model, by label, has in a job's place, as in its file."""
        if self.base is not None and label == self.base.label:
            return tower_tensor(self.base, job.name)
        return tower_tensor(self.sources[label], dict(job.parts)[label])

    def why_not_as_is(self, model: OpenModel) -> str | None:
        """Why the output's live model cannot answer as one of the unmerged models; None if it can.

        It can if each tensor has the model's own in its place, and both differ in nothing but weights. A
        vision-language owner answers as itself alone, since other vision parts have other weights.
        """
        if self.recipe.slices or self.recipe.route:
            return "the search stacks layers"
        if self.recipe.chat_template is not None:
            return "the recipe has a chat template of its own"
        if model is self.owner:
            return None
        if self.owner.layout.kind == "vlm" or model.layout.kind == "vlm":
            return f"it has not the vision part of {self.owner.label}"
        if not self.rows[model.label].identity:
            return f"its vocabulary is not that of {self.owner.label}"
        file = differing_file(model, self.owner)
        return None if file is None else f"its {file} differs from that of {self.owner.label}"

    def base_dtype(self, job: Job) -> torch.dtype:
        """The dtype of `base_tensor`. The assembly must have a base."""
        assert self.base is not None
        return _tower_dtype(self.base, job.name)

    def source_dtype(self, source: str, name: str) -> torch.dtype:
        """The dtype of `source_tensor`: that of the source's file."""
        return _tower_dtype(self.sources[source], name)

    def span(self, job: Job, label: str, name: str) -> FileSpan | None:
        """Where a model's file has its tensor for a job as a merge reads it; None if rows have to be put in order.

        label: of the base or of a source. name: the tensor's canonical name in the model.
        """
        model = self.base if self.base is not None and label == self.base.label else self.sources[label]
        if job.name in VOCABULARY_TENSORS:
            others = [] if self.base is None else [self.base]
            if not all(self._match(one, job).identity for one in (model, *others)):
                return None
        return model.checkpoint.span(_tower_key(model, name))

    def _match(self, model: OpenModel, job: Job) -> RowMatch:
        """How a model's rows match those of a vocabulary tensor: a head may have fewer than the embeddings."""
        match, rows = self.rows[model.label], job.shape[0]
        return match if len(match.rows) == rows else replace(match, rows=match.rows[:rows])

    def draws(self, job: Job, source: str, *, keep: bool = False) -> Draws:
        """Return the counter-based random draws for one source's mask of one tensor. `keep`: cache them."""
        return Draws(self.recipe.seed, source, job.name, keep=keep)

    def merge(self, job: Job, out: Tensor | None = None) -> Tensor:
        """Return the merged tensor of one job, in the recipe's dtype; written into `out` if given."""
        base = self.base_tensor(job) if self.reads_base else None
        operands = [
            self.operand(job, source, self.source_tensor(job, source, name, base), self.draws(job, source))
            for source, name in job.parts
        ]
        operands = self.with_vectors(job, base, operands)
        # A factor multiplies before rounding, so that folding adds no second rounding.
        plain = job.factor == 1.0
        dtype, place = (self.dtype, out) if plain else (torch.float32, None)
        with blaming_plugins(self.recipe.method, job.name):
            whole = merge_tensor(self.recipe.method, base, operands, self.options_of(job), dtype=dtype, out=place)
        if plain:
            return self.keep_rows(job, whole)
        scaled = fold(whole, job.factor, norm_offset(self.owner.folder, job.name)).to(self.dtype)
        return scaled if out is None else out.copy_(scaled)

    def options_of(self, job: Job) -> MergeOptions:
        """The method's options for one tensor: its own option `exclude`, if it has one, names tensors to average."""
        own = self.options.own
        excluded = {name.strip() for name in getattr(own, "exclude", "").split(",")}
        return replace(self.options, averaged=True) if excluded & {*job.name.split(".")} else self.options

    def ask_of(self, job: Job) -> Ask:
        """What the prepared task vectors of one tensor are made of; the recipe's method must prepare them."""
        base = self.base_tensor(job)
        assert base is not None
        sources = tuple(self.source_tensor(job, source, name, base) for source, name in job.parts)
        return Ask(job.name, self.recipe.method, self.options_of(job), base, sources)

    def vectors_of(self, job: Job, device: torch.device) -> list[Tensor]:
        """The prepared task vectors of one tensor: from their files, if there are any, or made on a device."""
        if self.vectors is None:
            return self.ask_of(job).made(device)
        known = self.vectors.known(self.recipe.method, self.options_of(job), job.name)
        return known if known is not None else self.vectors.get(self.ask_of(job), device)

    def with_vectors(self, job: Job, base: Tensor | None, operands: list[Operand]) -> list[Operand]:
        """The operands with their kept vectors, if the method prepares them and there are files of them."""
        if self.vectors is None or base is None or METHODS[self.recipe.method].prepare is None:
            return operands
        sources = tuple(operand.tensor for operand in operands)
        return self.vectors.filled(Ask(job.name, self.recipe.method, self.options_of(job), base, sources), operands)

    def keep_rows(self, job: Job, merged: Tensor) -> Tensor:
        """Restore, in place, the owner's vocabulary rows that have nothing to be merged with.

        A method would otherwise scale them (slerp, or weights that do not sum to 1) or round them to another model's
        dtype.
        """
        kept = self.kept_rows(job)
        if kept is not None:
            rows, values = kept
            merged[rows] = values.to(merged.dtype)
        return merged

    def kept_rows(self, job: Job) -> tuple[Tensor, Tensor] | None:
        """Return the indices (int64) of those rows and the owner's values in the recipe's dtype; None if none."""
        kept = self._untouched(job) if job.name in VOCABULARY_TENSORS else None
        if kept is None or not bool(kept.any()):
            return None
        rows = kept.nonzero().flatten()
        return rows, tower_tensor(self.owner, job.name)[rows].to(self.dtype)

    def _untouched(self, job: Job) -> Tensor | None:
        """Rows that only the owner has, or that the base lacks: bool [output rows]."""
        lacking = [self._match(model, job).rows < 0 for model in self._others(job)]
        if not self.reads_base:
            return torch.stack(lacking).all(dim=0) if lacking else None
        assert self.base is not None
        if self.base is not self.owner:
            return self._match(self.base, job).rows < 0
        return torch.stack(lacking).all(dim=0)

    def _others(self, job: Job) -> list[OpenModel]:
        """The sources of a job other than the owner, whose vocabulary the output has."""
        return [model for source, _ in job.parts if (model := self.sources[source]) is not self.owner]

    def operand(self, job: Job, source: str, tensor: Tensor, draws: Draws, tables: Tables | None = None) -> Operand:
        """Return one source's operand, with the recipe's weight and density for the job's layer group."""
        parameters = self.recipe.of(source)
        weight = value_at(parameters.weight, job.group, 1.0)
        density = value_at(parameters.density, job.group, 1.0)
        return Operand(tensor, weight, density, draws, tables)


def assemble(recipe: Recipe, root: Path, *, download: bool = False, out: Path | None = None) -> Assembly:
    """Open a recipe's models, check them and plan the merge.

    `root`: relative model paths are resolved against it. `download`: allow downloads from the hub. `out`: where the
    checkpoint will be written, to check its free disk space.
    Raises RecipeError listing every error that the check finds, CheckpointError if a model cannot be opened.
    """
    base, sources = open_models(recipe, root, download=download)
    findings = tuple(check_recipe(recipe, base, list(sources.values()), out=out))
    errors = [f"{finding.key}: {finding.text}" for finding in findings if finding.level == "error"]
    if errors:
        raise RecipeError("the recipe does not fit its models:\n  " + "\n  ".join(errors))
    owner = owner_of(recipe, base, sources)
    models = [*sources.values(), *([base] if base is not None else [])]
    return Assembly(
        recipe=recipe,
        root=root,
        base=base,
        sources=sources,
        owner=owner,
        jobs=jobs_of(recipe, owner, sources),
        copied=tuple(key for key in owner.checkpoint.keys() if _is_copied(owner, key)),
        rows={model.label: _match(recipe, owner, model) for model in models},
        findings=findings,
    )


def open_models(recipe: Recipe, root: Path, *, download: bool = False) -> tuple[OpenModel | None, dict[str, OpenModel]]:
    """Open the base (None if the recipe has none) and the sources by name, lazily.

    Raises CheckpointError naming every model that cannot be opened.
    """
    refused: list[str] = []

    def opened(key: str, label: str, one: Base | Source) -> OpenModel | None:
        is_base = isinstance(one, Base)
        try:
            return open_model(label, one.model, one.revision, root, download=download, is_base=is_base)
        except CheckpointError as error:
            refused.append(f"{key}: {error}")
            return None

    base = None if recipe.base is None else opened("base", recipe.base_label, recipe.base)
    sources = {source.name: opened(f"source {source.name}", source.name, source) for source in recipe.sources}
    if refused:
        raise CheckpointError(joined_errors(refused, "models cannot be opened"))
    found = {name: model for name, model in sources.items() if model is not None}
    if recipe.vision == "merged":
        return base and with_vision(base), {name: with_vision(model) for name, model in found.items()}
    return base, found


def owner_of(recipe: Recipe, base: OpenModel | None, sources: Mapping[str, OpenModel]) -> OpenModel:
    """Return the model that gives the output its configuration, vocabulary and (for a VLM) vision tower."""
    if recipe.owner is not None:
        return sources[recipe.owner]
    return base if base is not None else next(iter(sources.values()))


def with_recipe(assembly: Assembly, recipe: Recipe) -> Assembly:
    """Return the assembly with the same models and a recipe that differs only in parameters or route."""
    if recipe.route == assembly.recipe.route:
        return replace(assembly, recipe=recipe)
    return replace(assembly, recipe=recipe, jobs=tuple(route_jobs(recipe.route, assembly.owner, assembly.sources)))


def tower_tensor(model: OpenModel, name: str) -> Tensor:
    """Read a tensor of a model's tower by canonical name; for a tied head, the embedding table."""
    return model.checkpoint.tensor(_tower_key(model, name))


def _tower_dtype(model: OpenModel, name: str) -> torch.dtype:
    return model.checkpoint.dtype(_tower_key(model, name))


def _tower_key(model: OpenModel, name: str) -> str:
    key = model.tower.get(name)
    if key is None and name == OUTPUT_HEAD:
        key = model.tower[EMBEDDING]
    assert key is not None, f"{model.label} lacks {name}; the check should have reported it"
    return key


def _is_copied(owner: OpenModel, key: str) -> bool:
    """Whether a tensor is outside of what is merged. (A tied head's copy in the file belongs to neither.)"""
    if not owner.carries(key):
        return False
    return not owner.whole or not owner.checkpoint.dtype(key).is_floating_point


def _match(recipe: Recipe, owner: OpenModel, model: OpenModel) -> RowMatch:
    owner_rows = owner.checkpoint.shape(owner.tower[EMBEDDING])[0]
    rows = model.checkpoint.shape(model.tower[EMBEDDING])[0]
    if model is owner:
        return RowMatch(rows=torch.arange(rows), missing=(), extra=(), identity=True)
    return match_rows(owner.tokens, owner_rows, model.tokens, rows, recipe.vocab, model.place)


def _align(tensor: Tensor, match: RowMatch, fill: Callable[[], Tensor]) -> Tensor:
    """`tensor`'s rows in the output's order; missing rows come from `fill()`, called only if needed."""
    if match.identity:
        return tensor
    aligned = tensor[match.rows.clamp(min=0)]
    absent = match.rows < 0
    if bool(absent.any()):
        aligned[absent] = fill()[absent].to(aligned.dtype)
    return aligned
