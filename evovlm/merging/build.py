"""Build: merges an assembly into an ordinary checkpoint folder, streamed tensor by tensor.

Knows assemblies and the writer; no searches or scores.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch

from evovlm.merging._folding_error import (
    fold_error,
    has_scales,
    refuse_deep_features,
    refuse_error,
    refuse_lost,
    refuse_unfoldable,
)
from evovlm.merging._model_card import CardFacts, model_card, with_evaluation
from evovlm.merging._outputs import copied_tensor, refuse_non_finite, stored_dtype
from evovlm.merging.assembly import Assembly
from evovlm.merging.check import licence_of
from evovlm.merging.check.stacks import stack_of, stacked_kinds, write_stack
from evovlm.merging.gpu_build import merge_on_gpu, why_not_on_gpu
from evovlm.merging.prepare import making_members
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS
from evovlm.models.assets import copy_assets, set_chat_template
from evovlm.models.checkpoint import CheckpointWriter, TensorInfo
from evovlm.models.layouts import OUTPUT_HEAD, VOCABULARY_TENSORS
from evovlm.recipe.route import cumulative_scales
from evovlm.recipe.yaml_file import moved, write_recipe
from evovlm.system.errors import CheckpointError
from evovlm.system.files import write_text
from evovlm.system.fork_pool import MemberLost, share_out
from evovlm.system.version import VERSION

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]  # bytes written so far, bytes in total
# More processes than this only wait for memory bandwidth, and each holds one tensor.
MOST_MEMBERS = 16
# Bytes that a forked process takes besides its tensor: scratch of a few chunks, and the parent's pages it writes to.
MEMBER_BYTES = 2**24
MOMENT = 0.5  # seconds of merging from which the rest is estimated
LEAST_SHARED = 2**24  # elements of a merge below which forking takes longer than it saves


@dataclass(frozen=True)
class BuildReport:
    """The result of a build: the checkpoint's folder, its number of tensors and its bytes."""

    folder: Path
    tensors: int
    nbytes: int
    folding: str | None = None  # the error of folding a route's scales into the weights, as a sentence


def build_checkpoint(
    assembly: Assembly,
    out: Path,
    *,
    progress: Progress | None = None,
    facts: CardFacts | None = None,
    max_shard_bytes: int = 5 * 10**9,
    threads: int | None = None,
    device: torch.device | None = None,
    tell: Callable[[str], None] | None = None,
) -> BuildReport:
    """Merge every tensor and write the folder `out`, which appears complete or not at all.

    threads: the most tensors to merge at a time, each in its own process; fewer if the memory bound requires it. None:
    one per CPU core. facts: for the model card; None takes them from the assembly. device: the GPU that merges, to the
    same bits (None: the CPU); what it cannot merge is merged on the CPU. tell: called with one sentence on each such
    case.
    Peak memory does not grow with the model: it stays below its largest tensor in float32 times (sources + 3), plus
    one shard; with a GPU, see `merge_on_gpu`.
    Raises CheckpointError if `out` exists, the disk is full, a merged tensor is not finite, or a process is lost;
    RecipeError if a route's scales cannot be folded into the weights.
    """
    infos = output_tensors(assembly)
    folding = _folding(assembly)
    total = sum(info.nbytes for info in infos)
    with CheckpointWriter(out, infos, max_shard_bytes=max_shard_bytes) as writer:
        done = 0

        def account(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        written = _written_by_gpu(assembly, writer, account, device, tell)
        members = _members(assembly, threads, min(max_shard_bytes, total))
        _write_tensors(assembly, writer, account, members, but=written)
        copy_assets(assembly.owner.folder, writer.folder)
        if assembly.recipe.chat_template is not None:
            set_chat_template(writer.folder, assembly.recipe.chat_template)
        _adapt_configs(assembly, writer.folder)
        write_recipe(moved(assembly.pinned, assembly.root, out), writer.folder / "recipe.yaml")
        facts = facts if facts is not None else card_facts(assembly)
        if folding is not None:
            facts = replace(facts, warnings=(*facts.warnings, f"route: {folding}"))
        card = model_card(assembly.pinned, facts)
        (writer.folder / "README.md").write_text(card, encoding="utf-8")
    return BuildReport(out, len(infos), total, folding)


def output_tensors(assembly: Assembly) -> list[TensorInfo]:
    """Return name, shape and dtype of every output tensor, those copied from the owner first."""
    checkpoint = assembly.owner.checkpoint
    infos = [
        TensorInfo(key, checkpoint.shape(key), stored_dtype(checkpoint.dtype(key), assembly.dtype))
        for key in assembly.copied
    ]
    return infos + [TensorInfo(job.key, job.shape, assembly.dtype) for job in assembly.jobs]


def output_bytes(assembly: Assembly) -> int:
    """Return the bytes of the output's weights."""
    return sum(info.nbytes for info in output_tensors(assembly))


def merging_seconds(assembly: Assembly) -> float:
    """Estimate how long all tensors take to merge on this machine, by those that are merged in a moment."""
    began, done, total = time.perf_counter(), 0, sum(_count(job.shape) for job in assembly.jobs)
    for job in sorted(assembly.jobs, key=lambda job: _count(job.shape)):
        assembly.merge(job)
        done += _count(job.shape)
        if time.perf_counter() - began > MOMENT:
            break
    members = _members(assembly, None, output_bytes(assembly))
    return (time.perf_counter() - began) * total / max(1, done) / members


def card_facts(assembly: Assembly, evaluation: str = "") -> CardFacts:
    """Return what the model card reports beyond the recipe; `evaluation`: measurements, in Markdown."""
    models = {assembly.base.label: assembly.base} if assembly.base is not None else {}
    models |= dict(assembly.sources)
    return CardFacts(
        version=VERSION,
        digest=assembly.pinned.digest(),
        origins={name: model.origin for name, model in models.items() if model.origin is not None},
        licences={name: licence_of(model.folder) for name, model in models.items()},
        warnings=tuple(f"{f.key}: {f.text}" for f in assembly.findings if f.level == "warning"),
        evaluation=evaluation,
    )


def update_card(folder: Path, evaluation: str) -> None:
    """Put other measurements, in Markdown, on the model card of a checkpoint in `folder`."""
    card = folder / "README.md"
    if card.is_file():
        write_text(card, with_evaluation(card.read_text(encoding="utf-8"), evaluation))


def _folding(assembly: Assembly) -> str | None:
    """The measured error of folding, as a sentence; None if the route has no scales.

    Raises RecipeError if the scales cannot be folded into this family's weights, or the error is too large.
    """
    if not has_scales(assembly.recipe.route):
        return None
    products = cumulative_scales(assembly.recipe.route)
    unscaled = next(step for step, product in enumerate([*products, 0.0]) if product != 1.0)
    refuse_deep_features(assembly.owner, unscaled)
    refuse_unfoldable(assembly)
    refuse_lost(assembly)
    error = fold_error(assembly)
    refuse_error(error, assembly.recipe.dtype)
    return error.in_words(assembly.recipe.dtype)


def refuse_unbuildable(assembly: Assembly) -> None:
    """Raise RecipeError if a search's routes could not become plain checkpoints, because they have scales.

    Tried on the owner's first layers. For other searches nothing is tried.
    """
    search = assembly.recipe.search
    if search is not None and search.route is not None and search.route.scales != "none":
        refuse_deep_features(assembly.owner, search.route.prefix.layers if search.route.prefix is not None else 0)
        refuse_unfoldable(assembly)


def _written_by_gpu(
    assembly: Assembly,
    writer: CheckpointWriter,
    account: Callable[[int], None],
    device: torch.device | None,
    tell: Callable[[str], None] | None,
) -> set[str]:
    """Merge on a GPU what it can; returns the keys of the tensors that it wrote."""
    if device is None:
        return set()
    tell = tell or log.warning
    reason = why_not_on_gpu(assembly)
    if reason is not None:
        tell(f"merged on the CPU: {reason}")
        return set()
    return merge_on_gpu(assembly, writer, account, device, tell)


def _write_tensors(
    assembly: Assembly, writer: CheckpointWriter, account: Callable[[int], None], members: int, but: set[str]
) -> None:
    """Merge and write in a few processes, the largest tensors first so that none is left for the end.

    but: keys of tensors that are written already.
    """
    jobs = (job for job in assembly.jobs if job.key not in but)
    copied = (key for key in assembly.copied if key not in but)
    work: list[Job | str] = [*sorted(jobs, key=lambda job: -_count(job.shape)), *copied]
    if not work:
        return

    def do(number: int) -> None:
        item = work[number]
        if isinstance(item, str):
            writer.write(item, copied_tensor(assembly, item))
        else:
            merged = assembly.merge(item)
            refuse_non_finite(assembly, merged, item)
            writer.write(item.key, merged)

    def done(number: int, _: None) -> None:
        item = work[number]
        info = writer.info(item if isinstance(item, str) else item.key)
        writer.note(info.name)
        account(info.nbytes)

    try:
        share_out(range(len(work)), do, done, members)
    except MemberLost as lost:
        raise CheckpointError(
            f"{writer.out}: {lost}, most likely out of memory; merge with --threads 1 or close other programs"
        ) from lost


def _members(assembly: Assembly, wanted: int | None, shard: int) -> int:
    """How many processes to use: as many as requested (or CPU cores), within the memory bound."""
    if METHODS[assembly.recipe.method].prepare is not None:
        return min(wanted or MOST_MEMBERS, MOST_MEMBERS, making_members(assembly.jobs))
    counts = [_count(job.shape) for job in assembly.jobs]
    if sum(counts) < LEAST_SHARED:
        return 1
    bound = 4 * max(counts) * (len(assembly.sources) + 3) + shard
    most = min(wanted or os.cpu_count() or 1, MOST_MEMBERS, len(counts))
    heaviest = sorted((_in_flight(assembly, job) for job in assembly.jobs), reverse=True)[:most]
    taken = list(accumulate(MEMBER_BYTES + nbytes for nbytes in heaviest))
    return max(1, sum(total <= bound for total in taken))


def _in_flight(assembly: Assembly, job: Job) -> int:
    """Bytes held while one tensor is merged: its result, one mask per source, and rows matched by token."""
    each = assembly.dtype.itemsize + len(job.parts) + (4 if job.factor != 1.0 else 0)
    if job.name in VOCABULARY_TENSORS:
        each += sum(4 for match in assembly.rows.values() if not match.identity)
    return each * _count(job.shape)


def _adapt_configs(assembly: Assembly, folder: Path) -> None:
    """Make config.json match the merged weights: dtype, layer count, tied head, and attention kinds of a stack."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    for section in (config, text, config.get("vision_config", {})):
        for key in ("dtype", "torch_dtype"):
            if key in section:
                section[key] = assembly.recipe.dtype
    if "dtype" not in config and "torch_dtype" not in config:
        config["dtype"] = assembly.recipe.dtype
    stack = stack_of(assembly.recipe)
    if stack:
        write_stack(text, assembly.layers, stacked_kinds(stack, assembly.owner, assembly.sources))
    elif not assembly.owner.between:  # layers that are carried over count too
        text["num_hidden_layers"] = assembly.layers
    if text is not config and OUTPUT_HEAD not in (job.name for job in assembly.jobs):
        # Classes of transformers differ in where they read the flag; without a head both places must say it.
        config["tie_word_embeddings"] = text["tie_word_embeddings"] = True
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _count(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
