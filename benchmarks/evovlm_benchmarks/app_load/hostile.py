"""A visitor's answers and waiting times: alone, while hostile clients attack, and alone again."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from evovlm_benchmarks.app_load.scenes import COUNT, Scene, ask, load_scenes
from evovlm_benchmarks.app_load.server import Server
from evovlm_benchmarks.app_load.visitor import Visitor, address

ADDRESS_LASTS = 30  # questions per address, because the app limits a visitor's uploads
PAUSE = 0.1  # seconds between questions
Seen = dict[str, Any]


class Guest:
    """Asks about the scenes in turn and records answers and waits (including the image's upload)."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._scenes = load_scenes()
        self._asked = itertools.count()
        self._compare = Visitor(server.url, address(0)).functions()["compare"]
        self.wrong = 0
        self._known: dict[Scene, list[str]] = {}

    def visit(self, questions: int, go_on: Callable[[], bool] = lambda: False) -> Seen:
        """Ask `questions` in sequence, and more while `go_on()`; returns the figures, waits in seconds.

        Raises Lost if a question gets no answer.
        """
        waits: list[float] = []
        while len(waits) < questions or go_on():
            number = next(self._asked)
            scene = self._scenes[number % len(self._scenes)]
            visitor = Visitor(self._server.url, address(number // ADDRESS_LASTS))
            started = time.perf_counter()
            answers = ask(visitor, self._compare, scene)
            waits.append(time.perf_counter() - started)
            self.wrong += answers != self._known.setdefault(scene, answers)
            time.sleep(PAUSE)
        return {
            "questions": len(waits),
            "median_wait": round(statistics.median(waits), 3),
            "longest_wait": round(max(waits), 3),
        }


def hostile(server: Server, questions: int) -> Seen:
    """A visitor's figures before, during and after the attacks, and the replies to the attacks."""
    guest = Guest(server)
    guest.visit(COUNT)  # warm-up: models get loaded and the expected answers recorded
    figures: Seen = {"alone": guest.visit(questions), "memory_mb": [server.memory_mb()]}
    started = time.perf_counter()
    command = [sys.executable, "-m", "evovlm_benchmarks.app_load.attacks", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        figures["attacked"] = guest.visit(questions, lambda: attackers.poll() is None)
        assert attackers.stdout is not None
        figures["replies_to_attacks"] = json.load(attackers.stdout)
    figures["attack_seconds"] = round(time.perf_counter() - started, 1)
    figures["after"] = guest.visit(questions)
    figures["memory_mb"].append(server.memory_mb())
    figures["other_answers"] = guest.wrong
    return figures
