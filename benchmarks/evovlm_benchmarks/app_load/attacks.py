"""Five hostile clients attack one server at once; the replies to them are counted.

    python -m evovlm_benchmarks.app_load.attacks http://127.0.0.1:7860

A separate program because it stands for other machines: it runs at the lowest CPU priority. Each kind of attack has its
own address, so that blocking one does not stop the others. Knows only the app's paths.
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
AT_ONCE = 4  # concurrent requests per attack
JOINS, UPLOADS, BOMBS, STRANGERS = 400, 40, 20, 100


def unread_joins(attacker: Visitor) -> Counter[str]:
    """Questions in new sessions whose answers are never read."""
    solve = attacker.functions()["maths"]

    def join(_: int) -> httpx.Response:
        return attacker.join(solve, ["1+1は?", ["ja"], "", None], secrets.token_hex(6))

    return _at_once(join, JOINS)


def uploads(attacker: Visitor) -> Counter[str]:
    """Uploads of the largest size that a visitor may send, all different."""
    return _at_once(lambda _: attacker.upload(secrets.token_bytes(8_000_000)), UPLOADS)


def bombs(attacker: Visitor) -> Counter[str]:
    """Small files that decode to large images: some over the pixel limit, some within it."""
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
    """Requests whose Host header names another host."""
    return _at_once(lambda _: attacker.http.get("/config", headers={"Host": "attacker.example"}), STRANGERS)


def wrong_types(attacker: Visitor) -> Counter[str]:
    """Malformed requests: wrong types and unknown functions."""
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
    """Send `times` attacks, `AT_ONCE` at a time; count the replies by kind."""

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
    """Run all attacks at once; the number of each kind of reply, by attack."""
    with ThreadPoolExecutor(len(ATTACKS)) as threads:
        running = {
            name: threads.submit(one, Visitor(url, address(FIRST + number)))
            for number, (name, one) in enumerate(ATTACKS.items())
        }
    return {name: dict(one.result()) for name, one in running.items()}


if __name__ == "__main__":
    os.nice(19)
    print(json.dumps(attack(sys.argv[1])))
