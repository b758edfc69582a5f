"""Turn a watched command into a row: its floor, from the disk's rate or from the study's own profile.

Knows the steps, result files and checkpoints' sizes; starts no command.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from evovlm.study import log as study_log
from evovlm.system.files import read_rows
from evovlm_benchmarks.rehearsal.rows import Row
from evovlm_benchmarks.rehearsal.steps import Step
from evovlm_benchmarks.rehearsal.watching import Watched

SAID = 300  # characters of a failed command's last line
PHASES = ("merge", "prefill", "decode")


def row_of(step: Step, done: Watched, folder: Path, copied: float) -> Row:
    """The row of a step that has ended. copied: the disk's rate, in bytes per second, reads and writes both counted."""
    words = ("mergekit-yaml", *done.words[1:]) if step.mergekit else ("evovlm", *done.words[4:])
    row: Row = {
        "step": step.name, "command": " ".join(words),
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
    floor = sum(floors) if floors and all(floors) else 0.0
    if by_candidates and floor:
        row["floor"] = floor * (result.get("trials") or 1)
    return row | {"told": list(_told(folder, result["data"], sum(phases[name]["seconds"] for name in phases), floor))}


def _told(folder: Path, data: dict[str, Any], candidate: float, floor: float) -> Iterator[str]:
    """A candidate's seconds beside its floor and the first one's, and those of a row of the held-out table."""
    yield f"candidate {candidate:.2f} s" + (f", {candidate / floor:.2f} times its floor" if floor else "")
    trials = list(read_rows(folder / study_log.TRIALS))
    yield f"the first one {sum(trials[0]['seconds'].values()):.1f} s"
    rows = [row for row in read_rows(folder / study_log.EVENTS) if row["event"] == study_log.HELD_OUT_ROW]
    if len(rows) < 2 or "items" in trials[0]:
        return
    each = median(row["seconds"] / row["questions"] for row in rows[1:])  # the first one also reads the pictures
    told = f"{len(rows)} rows of {rows[0]['questions']} questions, {each * rows[0]['questions']:.2f} s each"
    if data["whole_pictures"]:
        yield told
    else:
        yield f"{told}: {each * data['search_items'] / candidate:.2f} times a candidate with as many"


def weight_bytes(folders: Iterable[Path]) -> int:
    """Bytes of all weight files in the folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))


def disk_rate(folder: Path, sample: Path) -> float:
    """Bytes per second, read and written both counted, of copying a file in the folder to a new one."""
    target = folder / ".copied"
    began = time.perf_counter()
    try:
        with sample.open("rb") as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 2**24)
            out.flush()
            os.fsync(out.fileno())
        seconds = time.perf_counter() - began
    finally:
        target.unlink(missing_ok=True)
    return 2 * sample.stat().st_size / seconds
