"""JP-LMEH: the command of lm-evaluation-harness that scores a checkpoint, and what it says.

Knows the harness's command line (version 0.4.5 and later); runs none of its code and copies none of its tasks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evovlm.errors import UserError

# The harness's own group of Japanese tasks: JAQKET, JCommonsenseQA, JNLI, JSQuAD, MARC-ja, MGSM, XL-Sum, XWinograd.
GROUP = "japanese_leaderboard"


def harness_command(
    python: str, model: Path, tasks: Sequence[str], *, device: str, batch: str, dtype: str, out: Path, limit: int | None
) -> list[str]:
    """The command line. Raises UserError where the harness is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm-evaluation-harness is not installed; pip install 'evovlm[lmeh]'")
    command = [python, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype={dtype}"]
    command += ["--tasks", ",".join(tasks or (GROUP,)), "--device", device, "--batch_size", batch]
    command += ["--output_path", str(out)]
    return command if limit is None else [*command, "--limit", str(limit)]


def refuse_vlm(folder: Path) -> None:
    """Raises UserError for a model with eyes: the harness's tasks are texts, its `hf` models have none."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "vision_config" in config:
        raise UserError(f"{folder}: a vision-language model; JP-LMEH takes language models, such as its source")


def harness_environment(download: bool) -> dict[str, str]:
    """The process's environment; without `download` neither models nor data are fetched."""
    return dict(os.environ) | ({} if download else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})


def read_scores(out: Path) -> dict[str, dict[str, Any]]:
    """The newest scores below a folder, by task. Raises UserError where there are none."""
    files = sorted(out.rglob("results*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise UserError(f"{out}: the harness wrote no results there")
    content = json.loads(files[-1].read_text(encoding="utf-8"))
    results: dict[str, dict[str, Any]] = content["results"]
    return results
