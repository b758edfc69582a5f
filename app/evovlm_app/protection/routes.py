"""The routes that visitors need. Gradio has many more; a route that is not listed here does not exist for visitors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Body = Literal["none", "join", "run", "call", "call_by_name", "cancel", "reset", "login", "files"]
READ = ("GET", "HEAD")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST_NAME = 255  # bytes per path component
NAME = r"(?P<name>[A-Za-z0-9_-]{1,64})"
SESSION = r"(?P<session>[A-Za-z0-9_-]{1,64})"


@dataclass(frozen=True)
class Route:
    """One path: its methods, body and query parameters, and whether it is available before login.

    `changes`: whether a request may change something.
    """

    path: str
    methods: tuple[str, ...] = READ
    body: Body = "none"
    query: tuple[str, ...] = ()
    asks_query: bool = False  # whether the query is required
    public: bool = False
    changes: bool = False

    def matches(self, path: str) -> re.Match[str] | None:
        """The match with the parts of the path, or None."""
        return re.fullmatch(self.path, path)


def _post(path: str, body: Body, *query: str, public: bool = False) -> Route:
    return Route(path, ("POST",), body, query, public=public, changes=True)


ROUTES = (
    Route("/", public=True),
    Route("/healthz", public=True),
    Route(r"/favicon\.ico", public=True),
    Route(r"/theme\.css", query=("v",), public=True),
    Route(r"/robots\.txt", public=True),
    Route(r"/(?:assets|static)/(?P<file>.+)", public=True),
    _post("/login/?", "login", public=True),
    Route("/logout", ("GET",), changes=True),
    Route("/config/?"),
    Route("/gradio_api/info/?"),
    Route("/gradio_api/login_check/?"),
    Route("/gradio_api/file=(?P<upload>.+)"),
    Route("/gradio_api/upload_progress", query=("upload_id",), asks_query=True),
    _post("/gradio_api/upload", "files", "upload_id"),
    Route("/gradio_api/queue/data", query=("session_hash",), asks_query=True),
    _post("/gradio_api/queue/join", "join"),
    Route(f"/gradio_api/heartbeat/{SESSION}", ("GET",)),
    _post("/gradio_api/cancel", "cancel"),
    _post("/gradio_api/reset/?", "reset"),
    _post(f"/gradio_api/(?:run|api)/{NAME}/?", "run"),
    _post(f"/gradio_api/call/{NAME}/?", "call"),
    _post(f"/gradio_api/call/v2/{NAME}/?", "call_by_name"),
    Route(rf"/gradio_api/call/(?:v2/)?{NAME}/(?P<event>[A-Za-z0-9_-]{{1,64}})", ("GET",)),
)


def find(path: str, method: str) -> tuple[Route, re.Match[str]] | Literal["no_page", "no_method"]:
    """The route of a request and the parts of its path, or the key in `words` of the refusal."""
    if CONTROL.search(path) or any(len(part.encode()) > LONGEST_NAME for part in path.split("/")):
        return "no_page"
    found = [(route, parts) for route in ROUTES if (parts := route.matches(path))]
    for route, parts in found:
        if method in route.methods:
            return route, parts
    return "no_method" if found else "no_page"
