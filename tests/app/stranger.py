"""A stranger who speaks raw HTTP: what an attacker sends, and what a server must not answer."""

import http.client
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image

from tests.app.conftest import ROOT, SECRET

PATIENCE = 10.0  # seconds for any answer; nothing that a stranger sends may take as long
JSON = {"Content-Type": "application/json"}
COLOUR = (17, 233, 94)  # of the picture that may not be read
# Files that an answer names: in a field, in an address, or in whatever words.
MENTIONED = re.compile(
    rb"""["']path["']\s*:\s*["']([^"'\\]+)|file=([^"'\\\s]+)|(/[^"'\\\s<>=:]*evovlm-app-[^"'\\\s<>]+)"""
)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Stranger:
    """A client without gradio: it sends what it is told. `source`: the address that it comes from."""

    def __init__(self, url: str, source: str = "127.0.0.1", **headers: str) -> None:
        self.place = urlsplit(url).netloc
        self.source = source
        self.headers = headers
        self._kept: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection that is kept. Raises TimeoutError where the server hangs."""
        for _ in range(2):
            kept = self._kept is not None
            connection = self._kept or self._connect()
            try:
                connection.request(method, quote(path, safe="/?&=:%+.,~-"), body, self.headers | headers)
                reply = connection.getresponse()
                answer = Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
                self._kept = connection
                return answer
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                self._kept = None
                if not kept:
                    raise
            except BaseException:
                connection.close()
                self._kept = None
                raise
        raise AssertionError("a new connection was tried")

    def post(self, path: str, value: Any, **headers: str) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), **(JSON | headers))

    def stream(self, path: str, ends: Callable[[bytes], bool]) -> bytes:
        """A stream of events until one of them is the last."""
        connection, heard, deadline = self._connect(), b"", time.monotonic() + PATIENCE
        try:
            connection.request("GET", path, headers=self.headers)
            reply = connection.getresponse()
            while time.monotonic() < deadline:
                line = reply.readline()
                heard += line
                if not line or ends(line):
                    return heard
        finally:
            connection.close()
        raise TimeoutError(f"{path}: no end")

    def event(self, event: dict[str, Any], data: list[Any], session: str, event_data: Any = None) -> Answer:
        """An event of the page as the browser sends it, and all that comes back of it."""
        body = {"data": data, "fn_index": event["id"], "session_hash": session, "event_data": event_data}
        if not event["queue"]:
            return self.post("/gradio_api/run/predict", body)
        answer = self.post("/gradio_api/queue/join", body)
        if answer.status == 200:
            end = lambda line: b"process_completed" in line or b"close_stream" in line  # noqa: E731
            answer.body += self.stream(f"/gradio_api/queue/data?session_hash={session}", end)
        return answer

    def upload(self, name: str, content: bytes) -> str:
        """Where the server says that it keeps the file."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = self.ask("POST", "/gradio_api/upload", head.encode() + content + b"\r\n--x--\r\n", **form)
        assert answer.status == 200, answer.text
        (path,) = json.loads(answer.body)
        return str(path)

    def log_in(self, password: str) -> Answer:
        """Give a NAME:PASSWORD, and keep the cookie where it is right."""
        name, _, word = password.partition(":")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", "/login", f"username={name}&password={word}".encode(), **form)
        found = re.search(r"access-token-unsecure-[^=]+=[^;]+", answer.headers.get("set-cookie", ""))
        if found:
            self.headers["Cookie"] = found.group()
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        host, _, port = self.place.partition(":")
        return http.client.HTTPConnection(host, int(port), timeout=PATIENCE, source_address=(self.source, 0))


@dataclass
class Prey:
    """What must not be read, and the ways to name it."""

    folder: Path
    token: str = "marker-" + SECRET[:8]
    asked: list[str] = field(default_factory=list)  # of the listener that nobody may reach
    port: int = 0

    def files(self) -> dict[str, dict[str, Any]]:
        """Each way to name a file that is nobody's business, as gradio's file objects."""
        hidden, link = self.folder / self.token / f"{self.token}.txt", self.folder / f"link-{self.token}.txt"
        picture, drawing = hidden.with_suffix(".png"), hidden.with_suffix(".svg")
        web = f"http://127.0.0.1:{self.port}/{self.token}.png"
        paths = {
            "file": str(hidden),
            "folder": str(hidden.parent),
            "picture": str(picture),
            "drawing": str(drawing),
            "link": str(link),
            "linked folder": str(self.folder / f"linked-{self.token}" / hidden.name),
            "relative": os.path.relpath(hidden, ROOT),
            "environment": "/proc/self/environ",
            "descriptor": "/proc/self/cwd/pyproject.toml",
            "file address": f"file://{hidden}",
            "web address": web,
            "upward": f"/tmp/../{hidden}",
        }
        named = {name: file_object(path) for name, path in paths.items()}
        named["foreign address of a file"] = file_object(str(picture), url=web)
        named["stream"] = file_object(str(hidden), is_stream=True)
        return named

    def hangs(self) -> dict[str, dict[str, Any]]:
        """Files that never end."""
        return {name: file_object(str(path)) for name, path in (("zero", "/dev/zero"), ("fifo", self.folder / "fifo"))}

    def found_in(self, body: bytes) -> str | None:
        """What of it stands in an answer."""
        if SECRET.encode() in body:
            return "bytes"
        if self.token.encode() in body:
            return "path"
        try:
            image = Image.open(io.BytesIO(body)).convert("RGB")
        except Exception:
            return None
        return "picture" if image.getpixel((0, 0)) == COLOUR else None


def file_object(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


def set_out(folder: Path) -> Prey:
    """A secret file, a picture and a drawing in a folder of mode 0700, links to them, and a FIFO."""
    prey = Prey(folder)
    private = folder / prey.token
    private.mkdir(mode=0o700)
    hidden = private / f"{prey.token}.txt"
    hidden.write_text(f"{SECRET}\n")
    hidden.with_suffix(".svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><text>{SECRET}</text></svg>')
    Image.new("RGB", (24, 24), COLOUR).save(hidden.with_suffix(".png"))
    (folder / f"link-{prey.token}.txt").symlink_to(hidden)
    (folder / f"linked-{prey.token}").symlink_to(private)
    os.mkfifo(folder / "fifo")
    return prey


def listen(prey: Prey) -> Iterator[None]:
    """A web server that must never be asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        prey.port = listener.getsockname()[1]

        def hear() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                prey.asked.append(str(peer.recv(200)))
                peer.close()

        threading.Thread(target=hear, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def mentioned(body: bytes) -> set[str]:
    """The files that an answer names."""
    return {next(part for part in found if part).decode("utf-8", "replace") for found in MENTIONED.findall(body)}
