"""A hub on this machine: the few answers of its protocol that fetching a data set takes, from a folder.

`root` holds `owner/name/` folders in the hub's layout. Every path that is asked for is kept, to tell who asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_of(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve while inside; the address, and the requests so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(*self._find())

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            kind = self.headers["Content-Type"]
            wanted = json.loads(body)["paths"] if "json" in kind else parse_qs(body)["paths"]
            repository = _repository(self.path)
            found = [_entry(root / repository, path) for path in wanted if (root / repository / path).exists()]
            self._answer(200, json.dumps(found).encode(), {})

        def _find(self) -> tuple[int, bytes, dict[str, str]]:
            path = unquote(urlsplit(self.path).path)
            repository = _repository(path)
            folder = root / repository
            if not folder.is_dir():
                return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
            if "/resolve/" in path:
                file = folder / path.split("/resolve/")[1].partition("/")[2]
                if not file.is_file():
                    return 404, b"", {"X-Error-Code": "EntryNotFound"}
                content = file.read_bytes()
                return 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
            files = sorted(file for file in folder.rglob("*"))
            if "/tree/" in path:
                under = path.split("/tree/")[1].partition("/")[2]
                there = [file for file in files if file.parent == folder / under or "recursive=True" in self.path]
                entries = [_entry(folder, file.relative_to(folder).as_posix()) for file in there]
                return 200, json.dumps([entry for entry in entries if entry["path"].startswith(under)]).encode(), {}
            names = [{"rfilename": file.relative_to(folder).as_posix()} for file in files if file.is_file()]
            return 200, json.dumps({"id": repository, "sha": COMMIT, "siblings": names}).encode(), {}

        def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            for name, value in ({"X-Repo-Commit": COMMIT, "Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing on the console."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _repository(path: str) -> str:
    """`owner/name` of an address, of the files' kind or of the programs'; of a data set or a model."""
    words = path.removeprefix("/api").removeprefix("/datasets").removeprefix("/models").lstrip("/").split("/")
    return "/".join(words[:2])


def _entry(folder: Path, path: str) -> dict[str, object]:
    file = folder / path
    if file.is_dir():
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    content = file.read_bytes()
    return {"type": "file", "path": path, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
