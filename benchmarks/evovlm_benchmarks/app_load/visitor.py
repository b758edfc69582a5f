"""One visitor over plain HTTP: its own address, and a new session for each question.

Knows the paths that gradio's page uses; gradio's client would keep one session and hide refusals.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

API = "/gradio_api"
MODELS = ["vlm", "ja", "merged"]  # the zoo's models that answer about an image
FIRST = 2  # last number of the first visitor's address; 127.0.0.1 is the server's


def address(number: int) -> str:
    """The loopback address of a visitor, by number. Linux answers on all of 127.0.0.0/8."""
    return f"127.0.{number // 200}.{FIRST + number % 200}"


class Lost(Exception):
    """A question got no answer; the message is the reason."""


class Visitor:
    """Asks one server from one address."""

    def __init__(self, url: str, address: str, *, timeout: float = 300.0) -> None:
        self.address = address
        transport = httpx.HTTPTransport(local_address=address)
        self.http = httpx.Client(base_url=url, transport=transport, timeout=timeout)

    def functions(self) -> dict[str, int]:
        """The page's function numbers, by name."""
        dependencies = self.http.get("/config").json()["dependencies"]
        return {found["api_name"]: found["id"] for found in dependencies if found["api_name"]}

    def upload(self, *files: bytes) -> httpx.Response:
        """Send files in one request."""
        parts = [("files", (f"{number}.png", data, "image/png")) for number, data in enumerate(files)]
        return self.http.post(f"{API}/upload", files=parts)

    def join(self, function: int, data: Sequence[Any], session: str) -> httpx.Response:
        """Put a question in the queue."""
        body = {"fn_index": function, "data": list(data), "session_hash": session}
        return self.http.post(f"{API}/queue/join", json=body)

    def listen(self, session: str) -> Iterator[dict[str, Any]]:
        """Yield a session's messages as they arrive, until the stream ends."""
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": session}) as reply:
            reply.raise_for_status()
            for line in reply.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def ask(self, function: int, data: Sequence[Any]) -> list[Any]:
        """A function's output values, from a new session. Raises Lost if there is no answer."""
        session = secrets.token_hex(6)
        joined = self.join(function, data, session)
        if joined.status_code != httpx.codes.OK:
            raise Lost(f"HTTP {joined.status_code}: {joined.text}")
        for message in self.listen(session):
            if message["msg"] == "process_completed":
                if not message["success"]:
                    raise Lost(str(message["output"].get("error")))
                values: list[Any] = message["output"]["data"]
                return values
        raise Lost("the stream ended without an answer")


def picture(path: str) -> dict[str, Any]:
    """An uploaded image as a gradio input value."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
