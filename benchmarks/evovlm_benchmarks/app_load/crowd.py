"""Many visitors at once, in rounds: how many are lost, how long they wait, and what each session leaves in memory."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evovlm.cli.console import bars
from evovlm_benchmarks.app_load.scenes import ask, load_scenes
from evovlm_benchmarks.app_load.server import Server
from evovlm_benchmarks.app_load.visitor import Visitor, address

ROUNDS_EACH = 30  # after so many pictures a visitor goes and another comes: uploads are bounded by the hour


def crowd(server: Server, requests: int, rounds: int) -> dict[str, Any]:
    """Figures of `rounds` times `requests` questions at once; every question is a session, every place an address."""
    scenes = load_scenes()
    compare = Visitor(server.url, address(0)).functions()["compare"]
    reasons: Counter[str] = Counter()
    told: list[dict[str, Any]] = []
    before = server.memory_mb()

    def visit(place: int) -> tuple[str | None, float]:
        number = place + requests * (len(told) // ROUNDS_EACH)
        started = time.perf_counter()
        reason = None
        try:
            ask(Visitor(server.url, address(number)), compare, scenes[place % len(scenes)])
        except Exception as error:  # one that is lost does not end the measurement; every reason is told
            reason = f"{type(error).__name__}: {error}"
        return reason, time.perf_counter() - started

    with bars() as progress, ThreadPoolExecutor(requests) as visitors:
        task = progress.add_task("load", total=requests * rounds, figures="")
        for _ in range(rounds):
            started = time.perf_counter()
            waits = []
            for reason, seconds in visitors.map(visit, range(requests)):
                if reason is not None:
                    reasons[reason] += 1
                waits.append(seconds)
                progress.advance(task)
            told.append(_row(server, waits, time.perf_counter() - started, requests * (len(told) + 1)))
    first, last = told[0]["memory_mb"], told[-1]["memory_mb"]
    return {
        "requests": requests,
        "lost": reasons.total(),
        "reasons": dict(reasons),
        "memory_mb_before": before,
        "growth_after_first_round": round(last / first - 1, 4),
        "rounds": told,
    }


def _row(server: Server, waits: list[float], took: float, sessions: int) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "sessions_kept": server.health()["sessions"],
        "memory_mb": server.memory_mb(),
        "seconds": round(took, 2),
        "a_second": round(len(waits) / took, 2),
        "median_wait": round(statistics.median(waits), 2),
        "longest_wait": round(max(waits), 2),
    }
