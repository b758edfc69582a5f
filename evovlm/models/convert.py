"""Convert a pickle checkpoint to safetensors: plan from the lists of its files, then write tensor by tensor.

Knows files, names and dtypes; no architectures. Weights are read by a confined child process (`_pickle_reader`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evovlm.models._pickle_reader import LEAST_SECONDS, PickleReader
from evovlm.models._pickled import PickledFiles, find_pickled
from evovlm.models.assets import copy_assets
from evovlm.models.checkpoint import Checkpoint, has_weights
from evovlm.models.checkpoint_writer import CheckpointWriter, TensorInfo
from evovlm.models.configuration import read_config
from evovlm.models.finite import is_finite
from evovlm.models.foreign_kinds import foreign_kind
from evovlm.models.layouts import EMBEDDING, LAYOUTS, OUTPUT_HEAD
from evovlm.models.loading import report_from_headers
from evovlm.models.model_files import check_files, read_object
from evovlm.system.errors import CheckpointError
from evovlm.system.hub_cache import CONVERTED, commit_of
from evovlm.system.version import VERSION

Progress = Callable[[int, int], None]  # bytes checked and written so far, bytes in total
# What a folder tells about licence and origin; the merge's check reads the licence from README.md.
TOLD = ("README.md", "LICENSE*", "LICENCE*", "NOTICE*")
# Keys of JSON files that name code of the repository, which is not copied and never run.
CODE_KEYS = ("auto_map", "custom_pipelines")


@dataclass(frozen=True)
class Plan:
    """What a conversion will write. `tied`: names left out, because the configuration ties them to the embeddings."""

    files: PickledFiles
    tensors: dict[Path, tuple[TensorInfo, ...]]
    tied: tuple[str, ...]

    @property
    def note(self) -> str | None:
        """What the user should know of the layout; None if it is an ordinary one."""
        names = [info.name for info in self.infos]
        owned = foreign_kind({}, names).owned
        return None if owned is None else f"this checkpoint {owned}"

    @property
    def infos(self) -> list[TensorInfo]:
        """All tensors, file by file."""
        return [info for infos in self.tensors.values() for info in infos]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(info.nbytes for info in self.infos)


class Conversion:
    """A pickle checkpoint that is about to be converted; use it as a context manager, which ends the child process.

    folder: the checkpoint. model: its name as the user gave it. seconds: as for `PickleReader`.
    Raises CheckpointError if the folder has safetensors already, no pickle checkpoint, or a damaged one.
    """

    def __init__(self, folder: Path, model: str, seconds: float = LEAST_SECONDS) -> None:
        if has_weights(folder):
            raise CheckpointError(f"{folder} has safetensors already; use {model} as it is")
        self.folder, self.model = folder, model
        self._config = read_config(folder)
        check_files(folder)
        self._files = find_pickled(folder)
        self._reader = PickleReader(max(path.stat().st_size for path in self._files.shards), seconds)
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._closing.enter_context(self._reader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def plan(self) -> Plan:
        """List the tensors. Raises CheckpointError if a file is not plain weights, or files and index disagree."""
        tensors: dict[Path, tuple[TensorInfo, ...]] = {}
        tied: list[str] = []
        where: dict[str, Path] = {}
        for path in self._files.shards:
            kept = []
            for one in self._reader.tensors_of(path):
                name = one.info.name
                if name in where:
                    raise CheckpointError(f"{path}: {name} is in {where[name].name} too; fetch both again")
                where[name] = path
                if one.same_as is not None and self._ties(name, one.same_as):
                    # Of the two names, loaders look for the embeddings'.
                    head = name if _is_head(name) else one.same_as
                    tied.append(head)
                kept.append(one.info)
            tensors[path] = tuple(info for info in kept if info.name not in tied)
        self._compare_index(where)
        if not any(tensors.values()):
            raise CheckpointError(f"{self.folder}: no tensors in {', '.join(path.name for path in self._files.shards)}")
        return Plan(self._files, tensors, tuple(tied))

    def write(self, plan: Plan, out: Path, *, max_shard_bytes: int, progress: Progress | None = None) -> list[str]:
        """Write the folder `out`, which appears complete or not at all; returns sentences about what was left out.

        At most the largest tensor is held in memory. Raises CheckpointError if `out` exists, the disk is full, or a
        file is damaged.
        """
        total, done = plan.files.nbytes + plan.nbytes, 0

        def account(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        with CheckpointWriter(out, plan.infos, max_shard_bytes=max_shard_bytes) as writer:
            for path, infos in plan.tensors.items():
                unchecked = path.stat().st_size
                for count in self._reader.check_sums(path):
                    account(count)
                    unchecked -= count
                account(unchecked)  # what has no checksum
                for info, tensor in zip(infos, self._reader.read(path, infos), strict=True):
                    if not is_finite(tensor):
                        raise CheckpointError(f"{path}: {info.name} holds NaN or infinite values; download it again")
                    writer.write(info.name, tensor)
                    account(info.nbytes)
            copy_assets(self.folder, writer.folder)
            for path in [found for pattern in TOLD for found in sorted(self.folder.glob(pattern))]:
                if path.is_file():
                    shutil.copyfile(path, writer.folder / path.name)
            left_out = _without_code(writer.folder)
            _write_json(writer.folder / CONVERTED, self._origin())
        report = report_from_headers(out, Checkpoint.open(out))
        if report is not None and (lacking := report.in_words()):
            left_out.append(
                f"it {lacking}; so do the pickles: find the missing files, or it can be neither merged nor asked"
            )
        return left_out

    def _ties(self, name: str, other: str) -> bool:
        """Whether the configuration ties these two names, so that loaders need one of them only.

        Only its top level counts: loaders do not tie a vision-language model that says so in `text_config` alone.
        """
        return self._config.get("tie_word_embeddings") is True and any(
            {name, other} == {layout.in_file(EMBEDDING), layout.in_file(OUTPUT_HEAD)} for layout in LAYOUTS
        )

    def _compare_index(self, where: dict[str, Path]) -> None:
        wrong = [key for key, name in self._files.weight_map.items() if key not in where or where[key].name != name]
        if wrong:
            raise CheckpointError(
                f"{self.folder}: the index names {len(wrong)} tensors that are not in their shards, the first is"
                f" {wrong[0]!r} in {self._files.weight_map[wrong[0]]}; fetch index and shards again from one revision"
            )

    def _origin(self) -> dict[str, Any]:
        commit = commit_of(self.folder)
        files = {path.name: path.stat().st_size for path in self._files.shards}
        return {"model": self.model, "commit": commit, "files": files, "evovlm": VERSION}


def _is_head(name: str) -> bool:
    return any(name == layout.in_file(OUTPUT_HEAD) for layout in LAYOUTS)


def _without_code(folder: Path) -> list[str]:
    """Remove what names code from a folder's JSON files, and say so."""
    told = []
    for path in sorted(folder.glob("*.json")):
        content = read_object(path) or {}
        named = [key for key in CODE_KEYS if key in content]
        if named:
            _write_json(path, {key: value for key, value in content.items() if key not in named})
            told.append(f"{path.name}: {' and '.join(named)} left out, which names code of the model's repository")
    return told


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
