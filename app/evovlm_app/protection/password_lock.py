"""The password check, the login page, and safe versions of gradio's error replies. Knows gradio's app; no tabs.

The login page reveals nothing about the page behind it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import get_root_url
from gradio.routes import templates
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from evovlm_app.limits import Refusal
from evovlm_app.protection.request_checks import turned_away

log = logging.getLogger(__name__)
# Statuses whose messages are kept: they tell waiting visitors what to do, and repeat nothing of a request.
KEPT = (429, 503)
KEYS = {401: "log_in", 403: "no_page", 404: "no_page", 405: "no_method", 413: "long_body"}


def checker(auth: tuple[str, str]) -> Callable[[str, str], bool]:
    """Return a function that checks a name and password in constant time, whichever of them is wrong."""
    right = [word.encode("utf-8", "surrogateescape") for word in auth]

    def check(name: str, password: str) -> bool:
        given = [word.encode("utf-8", "surrogateescape") for word in (name, password)]
        same = [hmac.compare_digest(one, other) for one, other in zip(given, right, strict=True)]
        return all(same)

    return check


@dataclass(frozen=True)
class PasswordLock:
    """The login of gradio's app `inner`: the users by cookie, and the login page."""

    inner: Any

    def user(self, request: Request) -> str | None:
        """The name of the logged-in user, or None."""
        names: list[str] = [self.inner.tokens[token] for token in self._tokens(request)]
        return names[0] if names else None

    def leave(self, request: Request) -> None:
        """Log the user out in this browser only."""
        for token in self._tokens(request):
            self.inner.tokens.pop(token, None)

    def _tokens(self, request: Request) -> list[str]:
        kinds = ("access-token", "access-token-unsecure")
        given = [request.cookies.get(f"{kind}-{self.inner.cookie_id}") for kind in kinds]
        return [token for token in given if token is not None and token in self.inner.tokens]

    def door(self, request: Request) -> Response:
        """The login page. It replaces gradio's own, which contains the names of all models."""
        page = self.inner.get_blocks()
        config = {
            "auth_required": True,
            "auth_message": page.auth_message,
            "space_id": None,
            "root": get_root_url(request=request, route_path="/", root_path=""),
            "page": {"": {"layout": {}}},
            "pages": [""],
            "components": [],
            "dependencies": [],
            "current_page": "",
            "head": page.head,
        }
        nothing: dict[str, Any] = {"named_endpoints": {}, "unnamed_endpoints": {}}
        context = {"base_url": "./", "config": config, "gradio_api_info": nothing}
        answer: Response = templates.TemplateResponse(request=request, name="frontend/index.html", context=context)
        return answer


def say_little(inner: Any) -> None:
    """Make gradio's app `inner` answer errors with our sentences; its own repeat paths and values."""

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        if isinstance(error, HTTPException) and status in KEPT:
            return JSONResponse({"detail": error.detail}, status, error.headers)
        wrong = status == 400 and request.url.path.startswith("/login")
        answer = turned_away(request.scope, Refusal("wrong_password" if wrong else KEYS.get(status, "bad_request")))
        answer.status_code = status
        return answer

    async def failed(request: Request, error: Exception) -> Response:
        # A malformed multipart body can raise many kinds of exceptions in its parser.
        if request.url.path == "/gradio_api/upload":
            log.info("refused", extra={"facts": {"where": "upload", "why": type(error).__name__}})
            return turned_away(request.scope, Refusal("bad_request"))
        reference = secrets.token_hex(4)
        facts = {"where": "route", "reference": reference, "error": repr(error)}
        log.error("unexpected", extra={"facts": facts}, exc_info=error)
        answer = turned_away(request.scope, Refusal("unexpected", reference=reference))
        answer.status_code = 500
        return answer

    inner.add_exception_handler(HTTPException, refused)
    inner.add_exception_handler(RequestValidationError, refused)
    inner.add_exception_handler(Exception, failed)
