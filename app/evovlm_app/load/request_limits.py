"""Load limits that every request passes before gradio sees it.

Knows HTTP, uploads and open streams; no models and no pages. It identifies the client, counts open streams, cuts off an
upload as soon as it exceeds a limit, and answers refused requests with a sentence.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers, QueryParams
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evovlm_app.limits import MOST_MEGABYTES
from evovlm_app.load.allowance import Allowance
from evovlm_app.load.clients import CURRENT, identify
from evovlm_app.load.fair_queue import FairQueue
from evovlm_app.load.open_streams import OpenStreams
from evovlm_app.load.upload_quota import Upload, UploadQuota
from evovlm_app.words import say

API = "/gradio_api"
UPLOAD = f"{API}/upload"
ANSWERS = f"{API}/queue/data"
ANSWER = re.compile(rf"{API}/call/(?:v2/)?[^/]+/(?P<event>[^/]+)")
HEARTBEAT = re.compile(rf"{API}/heartbeat/(?P<session>[^/]+)")
DISCARDING = 10.0  # seconds for which the rest of a refused upload is read, at most


class Denial(NamedTuple):
    """An HTTP status and its sentence, as a key in `words`."""

    status: int
    key: str


@dataclass
class RequestLimits:
    """ASGI middleware around `app`; `gradio_app` is the mounted gradio app."""

    app: ASGIApp
    gradio_app: Any
    line: FairQueue
    open_streams: OpenStreams
    uploads: UploadQuota
    allowance: Allowance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = identify(scope, self.gradio_app)
        scope.setdefault("state", {})["client"] = client
        CURRENT.set(client)
        path = scope["path"].rstrip("/")
        if path == UPLOAD:
            await self._receive(scope, receive, send)
        elif (stream := self._stream(scope, path)) is not None:
            await self._keep_open(scope, receive, send, *stream)
        else:
            await self.app(scope, receive, send)

    def _stream(self, scope: Scope, path: str) -> tuple[str, bool] | None:
        """For a request that opens a stream: its session, and whether it carries answers. None for other requests."""
        if path == ANSWERS:
            return QueryParams(scope["query_string"]).get("session_hash", ""), True
        if found := ANSWER.fullmatch(path):
            return self.line.session_of(found["event"]), True
        if found := HEARTBEAT.fullmatch(path):
            return found["session"], False
        return None

    async def _keep_open(self, scope: Scope, receive: Receive, send: Send, session: str, listening: bool) -> None:
        client = scope["state"]["client"]
        too_many = self.open_streams.streams(client) >= self.allowance.streams
        if too_many or self.open_streams.total >= self.allowance.all_streams:
            denial = Denial(429, "too_many_streams") if too_many else Denial(503, "too_busy")
            await _deny(denial, scope, receive, send)
            return
        ended = False

        async def note_end(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            with self.open_streams.stream(client, session, listening=listening):
                if listening:
                    self.line.listened(session)
                await self.app(scope, receive, note_end)
        finally:
            # Gradio stops the session's events itself, unless its stream is cancelled before it notices.
            if listening and not ended and not self.open_streams.listens(session):
                await self.line.clean_events(session_hash=session)

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on to the app; refuse it, or cut it off, if it exceeds a limit."""
        body = Body(receive)
        denial = await self._meter(body, scope)
        if denial is None:

            async def send_unless_denied(message: Message) -> None:
                if body.denial is None:
                    await send(message)

            try:
                await self.app(scope, body.receive, send_unless_denied)
            except MultiPartException:
                if body.denial is None and not body.cut_off:
                    raise
            denial = body.denial
        if denial is not None:
            await body.discard(self.allowance.discarded_bytes)
            await _deny(denial, scope, receive, send)

    async def _meter(self, body: Body, scope: Scope) -> Denial | None:
        """Install the check that runs as the body arrives. Returns a denial if the headers already exceed a limit."""
        headers, client = Headers(scope=scope), scope["state"]["client"]
        declared = int(length) if (length := headers.get("content-length", "")).isdecimal() else 0
        if declared > self.allowance.upload_bytes:
            return Denial(413, "upload_too_large")
        if self.uploads.is_used_up(client, more_bytes=declared, more_files=1):
            return Denial(429, "uploads_used_up")
        if await self.uploads.is_full():
            return Denial(503, "pictures_full")
        upload = self.uploads.begin(client)
        body.count_parts(headers.get("content-type", ""))
        body.check = lambda: self._beyond(body, upload, client)
        return None

    def _beyond(self, body: Body, upload: Upload, client: str) -> Denial | None:
        upload.nbytes, upload.files = body.nbytes, max(1, body.parts)
        if body.nbytes > self.allowance.upload_bytes:
            return Denial(413, "upload_too_large")
        if body.parts > self.allowance.upload_files:
            return Denial(413, "too_many_files")
        return Denial(429, "uploads_used_up") if self.uploads.is_used_up(client) else None


class Body:
    """An upload's body, counted as it arrives. `check` runs after each piece and returns a denial if it is too much.

    The reader then gets starlette's MultiPartException, after which gradio deletes what it has written.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._parser: Any = None
        self._whole = False
        self.nbytes = 0
        self.parts = 0
        self.cut_off = False
        self.denial: Denial | None = None
        self.check: Callable[[], Denial | None] = lambda: None

    def count_parts(self, content_type: str) -> None:
        """Count the parts of a multipart body, with the same library that gradio uses."""
        _, options = parse_options_header(content_type)
        if b"boundary" in options:
            self._parser = MultipartParser(options[b"boundary"], {"on_part_begin": self._part})

    async def receive(self) -> Message:
        """The next message. Raises MultiPartException if a limit is exceeded or the sender has disconnected."""
        message = await self._receive()
        if self._whole:
            return message
        if message["type"] == "http.disconnect":
            self.cut_off = True
            raise MultiPartException("The request was cut off.")
        piece = message.get("body", b"")
        self._whole = not message.get("more_body", False)
        self.nbytes += len(piece)
        if self._parser is not None:
            try:
                self._parser.write(piece)
            except FormParserError:
                self._parser = None  # gradio's parser fails at the same place, and reports it
        self.denial = self.check()
        if self.denial is not None:
            raise MultiPartException("The request is larger than allowed.")
        return message

    async def discard(self, most: int) -> None:
        """Read and drop up to `most` more bytes: many senders read the reply only after sending everything."""
        read = 0
        try:
            async with asyncio.timeout(DISCARDING):
                while not self._whole and read < most:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    self._whole = not message.get("more_body", False)
        except TimeoutError:
            pass

    def _part(self) -> None:
        self.parts += 1


async def _deny(denial: Denial, scope: Scope, receive: Receive, send: Send) -> None:
    sentence = say(denial.key, "en", most=MOST_MEGABYTES)
    await PlainTextResponse(sentence, denial.status)(scope, receive, send)
