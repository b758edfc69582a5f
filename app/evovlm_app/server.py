"""The server: the page, /healthz, and the headers of every reply. Knows FastAPI and uvicorn; no tabs, no models."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request, Response
from starlette.routing import Mount

from evovlm.system.version import VERSION
from evovlm_app.limits import MOST_BYTES
from evovlm_app.load.setup import Load
from evovlm_app.malloc import give_back
from evovlm_app.model_cache import ModelCache
from evovlm_app.protection.allowed_hosts import Hosts
from evovlm_app.protection.password_lock import PasswordLock, checker, say_little
from evovlm_app.protection.request_checks import RequestChecks
from evovlm_app.protection.safe_page import SafePage
from evovlm_app.searches import Searches
from evovlm_app.theme import CSS, ICON, head, theme

# Makes the browser refuse to load anything from other sites. Gradio's own page needs inline scripts and styles.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:;"
    " media-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def stay_at_home(pictures: str) -> None:
    """Turn analytics off, whatever the environment says, and set `pictures` as the folder of visitors' images.

    Call this before gradio is first used.
    """
    os.environ["GRADIO_TEMP_DIR"] = pictures
    # Gradio serves the files in this folder too; by default it is in the working directory.
    os.environ["GRADIO_EXAMPLES_CACHE"] = pictures
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


async def _with_headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    reply = await call(request)
    for name, value in HEADERS.items():
        reply.headers.setdefault(name, value)
    return reply


def build_server(
    page: SafePage,
    cache: ModelCache,
    searches: Searches,
    *,
    pictures: str,
    auth: tuple[str, str] | None = None,
    where: str = "127.0.0.1",
    names: Sequence[str] = (),
) -> FastAPI:
    """Build the server: the page at /, and its health at /healthz (without a password and without host details).

    `pictures`: the folder of visitors' images, deleted on shutdown. `auth`: name and password, or None. `where`: the
    address the server is bound to. `names`: host names that it also answers to.
    """

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        tidying = [asyncio.create_task(task) for task in (give_back(), load.tidy())]
        yield
        for task in tidying:
            task.cancel()
        searches.close()
        shutil.rmtree(pictures, ignore_errors=True)  # here, since a signal ends the process right after

    server = FastAPI(lifespan=alive, docs_url=None, redoc_url=None, openapi_url=None)

    async def healthz() -> dict[str, Any]:
        running = searches.running
        return {
            "status": "ok",
            "version": VERSION,
            "models_loaded": len(cache.loaded),
            "model_bytes": cache.nbytes,
            "searching": running is not None,
            "waiting": len(load.line),
            "sessions": len(load.sessions),
        }

    server.add_api_route("/healthz", healthz, methods=["GET"])
    _mount(server, page, auth, where)
    load = Load(server, page, Path(pictures))
    page.shut()
    inner = next(route.app for route in server.routes if isinstance(route, Mount))  # page.app is a different app
    say_little(inner)
    lock = PasswordLock(inner) if auth else None
    server.add_middleware(RequestChecks, page=page, uploads=Path(pictures), hosts=Hosts(where, names), lock=lock)
    server.middleware("http")(_with_headers)
    return server


def _mount(server: FastAPI, page: SafePage, auth: tuple[str, str] | None, where: str) -> None:
    """Put Gradio's page at /, without the parts of Gradio that the app does not need."""
    gr.mount_gradio_app(
        server,
        page,
        path="/",
        server_name=where,
        footer_links=["api"],
        auth=checker(auth) if auth else None,
        allowed_paths=[],
        max_file_size=MOST_BYTES,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        theme=theme(),
        css_paths=CSS,
        head=head(),
        favicon_path=str(ICON),
    )
