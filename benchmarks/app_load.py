"""Load on the app: many visitors at once ask one running server; none may be lost, and its memory stays flat.

    python -m benchmarks.app_load --requests 50 --rounds 2 --out app-load.json

Starts a server on the zoo of its own, asks `--requests` questions at once over its API, waits for all, and does so
again; the server's resident memory is read before, after a warm-up, and after each round. Knows the app's API alone.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from evovlm.console import ERR, OUT, bars
from evovlm.tasks import load_task
from evovlm.version import hardware, versions

STARTUP = 120  # seconds


def main(
    requests: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure a server of the app under load.

    Example: python -m benchmarks.app_load --requests 50 --rounds 4
    """
    with tempfile.TemporaryDirectory(prefix="evovlm-load-") as folder:
        port = _free_port()
        # Visitors' words stay off our own output.
        with (Path(folder) / "log").open("w") as sink:
            command = [sys.executable, "-m", "app", "--port", str(port), "--studies", folder]
            server = subprocess.Popen(command, stdout=sink, stderr=sink, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        try:
            _wait_for(port, server)
            figures = _measure(port, server.pid, Path(folder), requests, rounds)
        finally:
            server.terminate()
            server.wait(30)
    figures |= {"versions": versions(), "hardware": hardware("cpu")}
    if out is not None:
        out.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    OUT.print_json(json.dumps(figures["rounds"]))
    if figures["lost"]:
        for reason, count in figures["reasons"].items():
            ERR.print(f"{count} lost: {reason}", markup=False)
        raise typer.Exit(1)


def _measure(port: int, pid: int, folder: Path, requests: int, rounds: int) -> dict[str, Any]:
    from gradio_client import Client, handle_file

    items = load_task("zoo-vqa").items("test", 8, 0)
    paths = []
    for number, item in enumerate(items):
        assert item.image is not None
        paths.append(folder / f"{number}.png")
        item.image().save(paths[-1])
    client = Client(f"http://127.0.0.1:{port}", verbose=False)

    def ask(number: int) -> str | None:
        item, path = items[number % len(items)], paths[number % len(items)]
        rows = client.predict(handle_file(path), item.question, ["vlm", "ja", "merged"], api_name="/compare")
        states = [row["state"] for row in rows]
        return None if states == ["done"] * 3 else f"answers: {states}"

    process = psutil.Process(pid)
    memory = [process.memory_info().rss]
    ask(0)
    memory.append(process.memory_info().rss)
    told: list[dict[str, float]] = []
    reasons: Counter[str] = Counter()
    with bars() as progress, ThreadPoolExecutor(requests) as visitors:
        task = progress.add_task("load", total=requests * rounds, figures="")
        for _ in range(rounds):
            started = time.perf_counter()
            waits = []
            for reason, seconds in visitors.map(_timed(ask), range(requests)):
                if reason is not None:
                    reasons[reason] += 1
                waits.append(seconds)
                progress.advance(task)
            took = time.perf_counter() - started
            memory.append(process.memory_info().rss)
            told.append(
                {
                    "seconds": round(took, 2),
                    "a_second": round(requests / took, 2),
                    "median_wait": round(statistics.median(waits), 2),
                    "longest_wait": round(max(waits), 2),
                    "memory_mb": round(memory[-1] / 1e6, 1),
                }
            )
    megabytes = [round(value / 1e6, 1) for value in memory]
    lost = {"lost": reasons.total(), "reasons": dict(reasons)}
    return {"requests": requests, **lost, "memory_mb": megabytes, "rounds": told}


def _timed(ask: Callable[[int], str | None]) -> Callable[[int], tuple[str | None, float]]:
    """Why a request was lost, None where it was not, and its seconds. One that fails does not end the measurement."""

    def asked(number: int) -> tuple[str | None, float]:
        started = time.perf_counter()
        try:
            reason = ask(number)
        except Exception as error:  # the client raises what it likes, bare exceptions too; every one is told
            reason = f"{type(error).__name__}: {error}"
        return reason, time.perf_counter() - started

    return asked


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise SystemExit("the app did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    typer.run(main)
