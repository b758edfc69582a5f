"""A merge to disk on the CPU, compared with mergekit on the same checkpoints in the same run.

Runs `evovlm_benchmarks.merge_speed` in its own process, so that this process's memory is not counted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evovlm.system.errors import UserError
from evovlm_benchmarks.merge_speed import last_line
from evovlm_benchmarks.speed.floors import Rates
from evovlm_benchmarks.speed.settings import Settings

SCALE = {True: "small", False: "0.5b"}


def disk_rows(settings: Settings, rates: Rates) -> list[dict[str, Any]]:
    """A row per tool: median seconds and highest peak of anonymous memory (bytes), also as multiples of ours.

    Raises UserError if a merge fails.
    """
    with tempfile.TemporaryDirectory(dir=settings.work) as folder:
        told = Path(folder) / "speed.json"
        command = [
            sys.executable,
            "-P",
            "-m",
            "evovlm_benchmarks.merge_speed",
            "--scale",
            SCALE[settings.quick],
            "--json",
            str(told),
        ]
        command += ["--work", folder]
        if settings.mergekit is not None:
            command += ["--mergekit", str(settings.mergekit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"merge to disk failed: {last_line(done.stderr) or last_line(done.stdout) or 'no output'}")
        content = json.loads(told.read_text(encoding="utf-8"))
    ours = [run for run in content["runs"] if run["tool"] == "evovlm"]
    our_seconds = _median_seconds(ours)
    rows = []
    for tool in dict.fromkeys(run["tool"] for run in content["runs"]):
        runs = [run for run in content["runs"] if run["tool"] == tool]
        seconds = _median_seconds(runs)
        peak = max(run["anonymous"] for run in runs)
        rows.append(
            {
                "what": "merge to disk",
                "tool": tool,
                "merge": content["merge"],
                "seconds": seconds,
                "runs": [run["seconds"] for run in runs if run["seconds"] is not None],
                "peak_bytes": peak,
                "times_ours": seconds / our_seconds,
                "memory_times_ours": peak / max(run["anonymous"] for run in ours),
                "floor_seconds": content["copy_seconds"],
                "ratio": seconds / content["copy_seconds"],
            }
        )
    return rows


def _median_seconds(runs: list[dict[str, Any]]) -> float:
    """Median over the timed runs."""
    timed: list[float] = [run["seconds"] for run in runs if run["seconds"] is not None]
    return statistics.median(timed)
