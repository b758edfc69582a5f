"""A visitor's answers and waiting times, alone and while five hostile clients do what they can.

Each kind of attack has an address of its own: where one is turned away, the others are not spared.
"""

from __future__ import annotations

import io
import itertools
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from evovlm_benchmarks.app_load.scenes import COUNT, MODELS, Scene, ask, load_scenes
from evovlm_benchmarks.app_load.server import Server
from evovlm_benchmarks.app_load.visitor import API, Lost, Visitor, address, picture

ATTACKERS = 200  # the number of the first one's address
AT_ONCE = 4  # requests of each
ADDRESS_LASTS = 30  # questions: a visitor may not upload without end
PAUSE = 0.1  # seconds between questions
JOINS, UPLOADS, BOMBS, STRANGERS = 400, 40, 20, 100
Seen = dict[str, Any]


class Guest:
    """Asks about the scenes in turn, and notes answers and waits; the upload of the picture is waited for too."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._scenes = load_scenes()
        self._asked = itertools.count()
        self._compare = Visitor(server.url, address(0)).functions()["compare"]
        self.wrong = 0
        self._known: dict[Scene, list[str]] = {}

    def visit(self, questions: int, go_on: Callable[[], bool] = lambda: False) -> Seen:
        """So many questions one after another, and more while `go_on` says so. Raises Lost."""
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
    """What a visitor sees before, during and after the attacks, and what those were answered with."""
    guest = Guest(server)
    guest.visit(COUNT)  # models are loaded, all answers are known
    figures: Seen = {"alone": guest.visit(questions), "memory_mb": [server.memory_mb()]}
    started = time.perf_counter()
    with ThreadPoolExecutor(len(ATTACKS)) as threads:
        running: dict[str, Future[Counter[str]]] = {}
        for number, (name, attack) in enumerate(ATTACKS.items()):
            running[name] = threads.submit(attack, Visitor(server.url, address(ATTACKERS + number)))
        figures["attacked"] = guest.visit(questions, lambda: not all(one.done() for one in running.values()))
        figures["attack_seconds"] = round(time.perf_counter() - started, 1)
        figures["replies_to_attacks"] = {name: dict(one.result()) for name, one in running.items()}
    figures["after"] = guest.visit(questions)
    figures["memory_mb"].append(server.memory_mb())
    figures["other_answers"] = guest.wrong
    return figures


def unread_joins(attacker: Visitor) -> Counter[str]:
    """Questions in new sessions to whose answers nobody listens."""
    solve = attacker.functions()["maths"]

    def join(_: int) -> httpx.Response:
        return attacker.join(solve, ["1+1は?", ["ja"], "", None], secrets.token_hex(6))

    return _at_once(join, JOINS)


def uploads(attacker: Visitor) -> Counter[str]:
    """The largest pictures that a visitor may send, all different."""
    return _at_once(lambda _: attacker.upload(secrets.token_bytes(8_000_000)), UPLOADS)


def bombs(attacker: Visitor) -> Counter[str]:
    """Small files that are large pictures: some beyond the limit on pixels, some just within it."""
    compare = attacker.functions()["compare"]
    sizes = [(4000, 4000), (20000, 20000)]
    paths = [picture(attacker.upload(_blank(*size)).json()[0]) for size in sizes]

    def ask_about(number: int) -> str:
        try:
            attacker.ask(compare, [paths[number % 2], "何がありますか。", MODELS, None])
        except Lost as lost:
            return str(lost)
        return "answered"

    return _at_once(ask_about, BOMBS)


def strange_hosts(attacker: Visitor) -> Counter[str]:
    """Requests that name another host than this one."""
    return _at_once(lambda _: attacker.http.get("/config", headers={"Host": "attacker.example"}), STRANGERS)


def wrong_types(attacker: Visitor) -> Counter[str]:
    """Requests that are not what they should be."""
    compare = attacker.functions()["compare"]
    bodies: list[Any] = [
        {"fn_index": 999, "data": [], "session_hash": "x"},
        {"fn_index": compare, "data": [{"path": {}}, ["a"], {}, 7], "session_hash": secrets.token_hex(6)},
        {"fn_index": compare, "data": None, "session_hash": 5},
        {"fn_index": "compare", "data": [[[[]]]]},
        [],
    ]
    return _at_once(lambda number: attacker.http.post(f"{API}/queue/join", json=bodies[number % 5]), STRANGERS)


ATTACKS = {attack.__name__: attack for attack in (unread_joins, uploads, bombs, strange_hosts, wrong_types)}


def _at_once(attack: Callable[[int], httpx.Response | str], times: int) -> Counter[str]:
    """What so many attacks, a few at a time, were answered with."""

    def answered(number: int) -> str:
        try:
            reply = attack(number)
        except httpx.HTTPError as error:
            return type(error).__name__
        return reply if isinstance(reply, str) else f"HTTP {reply.status_code}"

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return Counter(threads.map(answered, range(times)))


def _blank(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, format="PNG")
    return file.getvalue()
