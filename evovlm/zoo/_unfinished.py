"""The folder beside a zoo in which it is trained: a finished stage is kept, and the zoo gets its name when complete.

Knows files and named tensors; trains nothing. However training ends, the same command continues after the last
finished stage, and nothing incomplete is ever found under the zoo's own name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evovlm.models.zoo_models import MANIFEST
from evovlm.system import files
from evovlm.system.errors import UserError
from evovlm.system.folder_lock import hold

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Unfinished:
    """The folder of a zoo in training. `folder` appears when training starts and is gone when the zoo is complete."""

    folder: Path

    def stage(self, name: str) -> tuple[Mapping[str, Tensor], float] | None:
        """A finished stage's weights and the seconds that it took; None if it is not finished."""
        path = self._path(name)
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        # In the order in which they were trained: the next stage adds up gradients in this order, which rounds.
        loaded = load_file(path)
        return {key: loaded[key] for key in json.loads(facts["order"])}, float(facts["seconds"])

    def keep(self, name: str, weights: Mapping[str, Tensor], seconds: float) -> None:
        """Keep a stage that has just finished."""
        path = self._path(name)
        scratch = path.with_suffix(".part")
        facts = {"seconds": f"{seconds:.1f}", "order": json.dumps(list(weights))}
        save_file({key: weight.contiguous() for key, weight in weights.items()}, scratch, metadata=facts)
        files.sync(scratch)
        os.replace(scratch, path)

    def has(self, name: str) -> bool:
        """Whether a stage is finished."""
        return self._path(name).exists()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


@contextmanager
def unfinished(out: Path, settings: Mapping[str, Any]) -> Iterator[Unfinished]:
    """The folder in which the zoo `out` is trained, locked against other processes.

    Raises UserError if another process trains the same zoo, or training with other settings was started before.
    """
    folder = _folder_of(out)
    with hold(folder):
        path = folder / SETTINGS
        if path.exists() and (known := files.read_json(path)) != settings:
            changed = [
                f"{key} {known.get(key)}, now {settings[key]}" for key in settings if known.get(key) != settings[key]
            ]
            raise UserError(
                f"{folder}: a zoo with other settings was left unfinished here ({'; '.join(changed)}); train it with"
                " those, delete that folder, or choose another --out"
            )
        files.write_json(path, settings)
        yield Unfinished(folder)


def finish(work: Unfinished, out: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write the zoo's files into a folder, give it the name `out`, and delete the stages."""
    whole = work.folder / "zoo"
    shutil.rmtree(whole, ignore_errors=True)  # left by a run that was killed here
    whole.mkdir()
    fill(whole)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(whole, out)
    clear(out)


def clear(out: Path) -> None:
    """Delete the folder in which the zoo `out` was trained, if a killed run left it."""
    shutil.rmtree(_folder_of(out), ignore_errors=True)


def is_finished(out: Path, command: str, models: tuple[str, ...]) -> bool:
    """Whether `out` is a zoo of these models that the same command made."""
    try:
        facts = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return bool(facts["command"] == command) and all(f"{name}/config.json" in facts["files"] for name in models)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _folder_of(out: Path) -> Path:
    whole = Path(os.path.abspath(out))
    return whole.with_name(f".{whole.name}.part")
