"""Turn a watched command into a row: its floor, from the disk's rate or from the study's own profile.

Knows the steps, result files and checkpoints' sizes; starts no command.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evovlm_benchmarks.rehearsal.rows import Row
from evovlm_benchmarks.rehearsal.steps import Step
from evovlm_benchmarks.rehearsal.watching import Watched

SAID = 300  # characters of a failed command's last line
PHASES = ("merge", "prefill", "decode")


def row_of(step: Step, done: Watched, folder: Path, copied: float) -> Row:
    """The row of a step that has ended. copied: the disk's rate, in bytes per second, reads and writes both counted."""
    row: Row = {
        "step": step.name, "command": "evovlm " + " ".join(done.words[4:]),
        "seconds": done.seconds, "silence": done.silence,
        "host": done.host, "gpu": done.gpu, "slower": list(done.slower),
    }  # fmt: skip
    if done.code != 0:
        return row | {"failed": _failure(done)}
    if step.floor == "copy":
        row["floor"] = (
            weight_bytes(folder / name for name in step.reads) + weight_bytes([folder / step.removes[0]])
        ) / copied
    if step.study:
        row |= _of_study(folder / step.study, by_candidates=step.floor == "candidates")
    return row | ({"ratio": row["seconds"] / row["floor"]} if row.get("floor") else {})


def _failure(done: Watched) -> str:
    if done.code is None:
        return f"stopped after {done.seconds:.0f} s"
    lines = [line for line in done.output.splitlines() if line.strip()] or ["no output"]
    return f"exit code {done.code}: {lines[-1].strip()[:SAID]}"


def _of_study(folder: Path, *, by_candidates: bool) -> Row:
    """What a study's own files say: a candidate's phases with their floors, and sentences about slower ways.

    by_candidates: the floor is that of the candidates alone, so the ratio also shows all that happens around them.
    """
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    phases: dict[str, Any] = (result.get("profile") or {}).get("phases", {})
    row: Row = {"phases": phases, "score": result["held_out"]["evolved"]["score"]}
    floors = [phases[name].get("floor") for name in PHASES if name in phases]
    if by_candidates and floors and all(floors):
        row["floor"] = sum(floors) * (result.get("trials") or 1)
    return row


def weight_bytes(folders: Iterable[Path]) -> int:
    """Bytes of all weight files in the folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))


def disk_rate(folder: Path, sample: Path) -> float:
    """Bytes per second, read and written both counted, of copying a file in the folder to a new one."""
    target = folder / ".copied"
    began = time.perf_counter()
    with sample.open("rb") as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 2**24)
        out.flush()
        os.fsync(out.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return 2 * sample.stat().st_size / seconds
