"""Decides which requests reach gradio: each is checked once, by its host, route, login and body.

A refused request gets a sentence in the browser's language, which repeats nothing of the request. Knows HTTP, the
routes and the checks; no tabs and no models.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evovlm_app.limits import Refusal
from evovlm_app.protection.allowed_hosts import Hosts
from evovlm_app.protection.event_requests import EventRequests
from evovlm_app.protection.login_pause import LoginPause
from evovlm_app.protection.routes import Body, Route, find
from evovlm_app.uploads import uploaded
from evovlm_app.words import preferred, say

MOST_JSON = 256_000  # bytes of a JSON body
MOST_LOGIN = 4_000  # bytes of a login form
PATIENCE = 15.0  # seconds for either body to arrive
FORM = re.compile(r"multipart/form-data;.*boundary=[^;\s]")
WORD = re.compile(r"[A-Za-z0-9_.-]{1,80}")
STATUS = {
    "strange_host": 403,
    "strange_origin": 403,
    "log_in": 401,
    "no_page": 404,
    "no_event": 404,
    "no_method": 405,
    "long_body": 413,
    "no_json": 415,
    "log_in_later": 429,
}
# Removed headers: one that gradio trusts, though only its makers' own proxy sends it, and one that it fails to parse.
UNHEARD = (b"x-gradio-server", b"range")
# The policy for a visitor's file opened on its own: no script in it runs.
PICTURE = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; sandbox"


class Lock(Protocol):
    """The logged-in users and the login page."""

    def user(self, request: Request) -> str | None:
        """The name of the logged-in user, or None."""

    def leave(self, request: Request) -> None:
        """Log the user out."""

    def door(self, request: Request) -> Response:
        """The login page."""


class RequestChecks:
    """ASGI middleware. `page` is gradio's Blocks, `uploads` its upload folder.

    `lock`: the logged-in users, and the page shown to everyone else; None if there is no password.
    """

    def __init__(self, app: ASGIApp, *, page: Any, uploads: Path, hosts: Hosts, lock: Lock | None = None) -> None:
        self._app = app
        self._page = page
        self._uploads = uploads
        self._hosts = hosts
        self._lock = lock
        self._pause = LoginPause()
        self._events = EventRequests(page, uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that the page or the API needs, and refuse any other."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        try:
            route, parts = self._enter(scope)
            receive = await self._checked(scope, receive, route, parts)
        except Refusal as refusal:
            answer = turned_away(scope, refusal)
            return await answer(scope, receive, send)
        request = Request(scope)
        if route.path == "/gradio_api/queue/data" and not self._waits(request):
            return await _no_session(scope)(scope, receive, send)
        if route.path == "/" and self._lock is not None and self._lock.user(request) is None:
            return await self._lock.door(request)(scope, receive, send)
        await self._pass(scope, receive, send, route)

    def _enter(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        """The route of a request and the parts of its path. Raises Refusal if it is not allowed.

        Headers that gradio must not see, and query parameters that the route does not use, are removed from `scope`.
        """
        headers = Headers(scope=scope)
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        found = find(scope["path"], scope["method"])
        if not isinstance(found, str):
            changes = found[0].changes
        key = self._hosts.refused(headers, changes=changes)
        if key is not None:
            raise Refusal(key)
        if isinstance(found, str):
            raise Refusal(found)
        route, match = found
        request = Request(scope)
        if self._lock is None and route.path.startswith(("/login", "/logout")):
            raise Refusal("no_page")
        if self._lock is not None and not route.public and self._lock.user(request) is None:
            raise Refusal("log_in")
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name.lower() not in UNHEARD]
        query = {name: request.query_params.get(name) for name in route.query}
        leaves = route.path == "/logout"
        if leaves and self._lock is not None:
            self._lock.leave(request)
        # Otherwise gradio would log out everyone with the same name.
        scope["query_string"] = b"all_session=false" if leaves else _query(query, asked=route.asks_query)
        return route, match.groupdict()

    async def _checked(self, scope: Scope, receive: Receive, route: Route, parts: dict[str, str]) -> Receive:
        """Check the request's body and path parts, and return a `receive` for the checked body. Raises Refusal."""
        if "upload" in parts:
            try:
                uploaded(parts["upload"], self._uploads)
            except Refusal:
                raise Refusal("no_page") from None
        if "event" in parts and not self._known(parts["event"]):
            raise Refusal("no_event")
        if route.body == "files":
            if not FORM.match(Headers(scope=scope).get("content-type", "")):
                raise Refusal("bad_request")
            return receive
        if route.body == "none":
            return receive
        if route.body == "login":
            raw = await _body(receive, MOST_LOGIN)
            wait = self._pause.wait(_client(scope))
            if wait:
                raise Refusal("log_in_later", seconds=wait)
            return _replayed(raw, receive)
        if not Headers(scope=scope).get("content-type", "").startswith("application/json"):
            raise Refusal("no_json")
        raw = self._rewritten(route.body, await _body(receive, MOST_JSON), parts.get("name", ""))
        # A body with named inputs has been rewritten as a list of inputs, so it goes to the other route.
        if route.body == "call_by_name":
            scope["path"] = scope["path"].replace("/call/v2/", "/call/")
            scope["raw_path"] = scope["path"].encode()
        headers = MutableHeaders(scope=scope)
        headers["content-length"] = str(len(raw))
        return _replayed(raw, receive)

    def _rewritten(self, body: Body, raw: bytes, name: str) -> bytes:
        events = self._events
        if body == "join":
            return events.join(raw)
        if body == "cancel":
            return events.cancel(raw)
        if body == "reset":
            return events.reset(raw)
        if body == "run":
            return events.run(raw, name)
        return events.call(raw, name) if body == "call" else events.call_by_name(raw, name)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        """Pass the request on to gradio, and correct the headers and status of its reply."""
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if route.body == "run" and message["status"] == 500:
                    message["status"] = 400  # gradio's status for every refusal; unexpected errors are in the log
                if route.body == "login" and message["status"] == 200:
                    self._pause.forgive(_client(scope))
                if "file=" in route.path:
                    MutableHeaders(scope=message)["Content-Security-Policy"] = PICTURE
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:  # already logged by the exception handler
            if not started:
                raise
            with suppress(Exception):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _known(self, event: str) -> bool:
        queue = self._page._queue
        waiting = any(event in events for events in list(queue.pending_event_ids_session.values()))
        return waiting or event in queue.event_ids_to_events

    def _waits(self, request: Request) -> bool:
        return request.query_params.get("session_hash") in self._page._queue.pending_messages_per_session


def turned_away(scope: Scope, refusal: Refusal) -> Response:
    """The reply to a refused request: a sentence, in the fields where gradio's clients look for it."""
    language = preferred(Headers(scope=scope).get("accept-language"))
    sentence = say(refusal.key, language, **refusal.facts)
    status = STATUS.get(refusal.key, 400)
    more = {"Retry-After": str(refusal.facts["seconds"])} if refusal.key == "log_in_later" else None
    if scope["path"] == "/gradio_api/upload" or not scope["path"].startswith(("/gradio_api", "/config", "/login")):
        return Response(sentence, status, more, media_type="text/plain; charset=utf-8")
    return JSONResponse({"detail": sentence, "error": sentence}, status, more)


def _no_session(scope: Scope) -> Response:
    """Gradio's own reply for an unknown session, in its format: the page then starts a new session."""
    sentence = say("no_event", preferred(Headers(scope=scope).get("accept-language")))
    told = {"msg": "unexpected_error", "message": sentence, "session_not_found": True, "success": False}
    return Response(f"data: {json.dumps(told, ensure_ascii=False)}\n\n", media_type="text/event-stream")


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _query(query: dict[str, str | None], *, asked: bool) -> bytes:
    """The query string with a route's parameters. Raises Refusal for a malformed value, or a missing one if `asked`."""
    given = {name: value for name, value in query.items() if value is not None}
    if not all(WORD.fullmatch(value) for value in given.values()) or (asked and len(given) < len(query)):
        raise Refusal("bad_request")
    return "&".join(f"{name}={value}" for name, value in given.items()).encode()


async def _body(receive: Receive, most: int) -> bytes:
    """The whole body. Raises Refusal if it is longer than `most` bytes, too slow, or cut off."""
    raw = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal("bad_request")
                raw += message.get("body", b"")
                if len(raw) > most:
                    raise Refusal("long_body")
                if not message.get("more_body", False):
                    return bytes(raw)
    except TimeoutError:
        raise Refusal("bad_request") from None


def _replayed(raw: bytes, receive: Receive) -> Receive:
    """A `receive` that first returns an already read body, then further messages."""
    first: Iterable[Message] = iter([{"type": "http.request", "body": raw, "more_body": False}])

    async def again() -> Message:
        for message in first:
            return message
        return await receive()

    return again
