"""JP-LMEH: build the lm-evaluation-harness command that scores a checkpoint, and read its results.

Knows the harness's command line (version 0.4.5 and later); runs none of its code and copies none of its tasks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evovlm.system.errors import UserError
from evovlm.system.files import write_json
from evovlm.system.version import hardware, versions

# The harness's own group of Japanese tasks, and its members.
GROUP = "japanese_leaderboard"
NAMES = ("jaqket_v2", "jcommonsenseqa", "jnli", "jsquad", "marc_ja", "mgsm", "xlsum", "xwinograd")
TASKS = tuple(f"ja_leaderboard_{name}" for name in NAMES)
SUMMARY, FORMAT = "lmeh.json", 1


@dataclass(frozen=True)
class TaskScore:
    """One metric of one task, 0 to 1, with its standard error if given."""

    task: str
    metric: str
    value: float
    error: float | None


def harness_command(
    python: str, model: Path, tasks: Sequence[str], *, device: str, batch: str, dtype: str, out: Path, limit: int | None
) -> list[str]:
    """The command line. Raises UserError if the harness is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm-evaluation-harness is not installed; pip install 'evovlm[lmeh]'")
    command = [python, "-P", "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype={dtype}"]
    command += ["--tasks", ",".join(tasks or (GROUP,)), "--device", device, "--batch_size", batch]
    command += ["--output_path", str(out)]
    return command if limit is None else [*command, "--limit", str(limit)]


def refuse_vlm(folder: Path) -> None:
    """Raise UserError for a vision-language model: the harness's tasks are text only, and so are its `hf` models."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "vision_config" in config:
        raise UserError(f"{folder}: a vision-language model; JP-LMEH needs language models, such as one of its sources")


def harness_environment(*, download: bool, data_code: bool) -> dict[str, str]:
    """The process's environment. Without `download`, no models or data are downloaded.

    `data_code`: whether data sets may run their own code, as JGLUE's does; a model's own code is never run.
    """
    offline = {} if download else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return dict(os.environ) | offline | {"HF_DATASETS_TRUST_REMOTE_CODE": str(int(data_code))}


def read_scores(out: Path) -> list[TaskScore]:
    """The newest scores below a folder. Raises UserError if there are none."""
    files = sorted(out.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise UserError(f"{out}: no results from the harness in this folder; see its output above")
    content = json.loads(files[-1].read_text(encoding="utf-8"))
    groups = content.get("groups") or {}
    return [found for name, row in content["results"].items() if name not in groups for found in _scores(name, row)]


def _scores(task: str, row: Mapping[str, Any]) -> Iterator[TaskScore]:
    """A task's metrics; the row's keys are METRIC,FILTER and METRIC_stderr,FILTER."""
    for key, value in row.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
            error = row.get(f"{metric}_stderr,{filtered}")
            yield TaskScore(task, metric, float(value), float(error) if isinstance(error, int | float) else None)


def write_summary(out: Path, model: str, scores: Sequence[TaskScore], device: str = "cpu") -> float | None:
    """Write the scores to `lmeh.json` for the leaderboard, with code versions and hardware.

    Returns JP-LMEH (0 to 100), or None unless all tasks of the group were run.
    """
    average = japanese_average(scores)
    content = {"format": FORMAT, "model": model, "jp-lmeh": average, "tasks": [asdict(found) for found in scores]}
    write_json(out / SUMMARY, content | {"versions": versions(), "hardware": hardware(device)})
    return average


def japanese_average(scores: Sequence[TaskScore]) -> float | None:
    """The unweighted mean of the group's tasks, 0 to 100, as in the paper; None unless all tasks have a score."""
    by_task = {found.task: found.value for found in reversed(scores)}  # a task's first metric is its main one
    if not all(task in by_task for task in TASKS):
        return None
    return 100 * sum(by_task[task] for task in TASKS) / len(TASKS)


def find_averages(folder: Path) -> list[dict[str, Any]]:
    """The summaries below a folder that contain JP-LMEH."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob(SUMMARY))]
    return [row for row in found if row.get("format") == FORMAT and row.get("jp-lmeh") is not None]
