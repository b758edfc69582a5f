"""Five hostile clients that do what they can to one server at once, and what they are answered with.

    python -m evovlm_benchmarks.app_load.attacks http://127.0.0.1:7860

A program of its own, for it stands for other machines: it leaves the processors to whoever else wants them. Each kind
of attack has an address of its own: where one is turned away, the others are not spared. Knows the app's paths alone.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from evovlm_benchmarks.app_load.visitor import API, MODELS, Lost, Visitor, address, picture

FIRST = 200  # the number of the first attacker's address
AT_ONCE = 4  # requests of each
JOINS, UPLOADS, BOMBS, STRANGERS = 400, 40, 20, 100


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


def attack(url: str) -> dict[str, dict[str, int]]:
    """All attacks at once; how often each was answered with what."""
    with ThreadPoolExecutor(len(ATTACKS)) as threads:
        running = {
            name: threads.submit(one, Visitor(url, address(FIRST + number)))
            for number, (name, one) in enumerate(ATTACKS.items())
        }
    return {name: dict(one.result()) for name, one in running.items()}


if __name__ == "__main__":
    os.nice(19)
    print(json.dumps(attack(sys.argv[1])))
