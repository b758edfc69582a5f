"""Load: puts the line, the sessions and the gate that bound it in the place of gradio's own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App as GradioApp
from starlette.middleware import Middleware
from starlette.routing import Mount

from app.allowance import ALLOWANCE, Allowance
from app.gate import Gate
from app.line import Line
from app.presence import Presence
from app.sessions import Sessions
from app.uploads import Uploads


class Load:
    """What bounds the load on one server. To be made once gradio's page is mounted, before the server starts."""

    def __init__(self, server: FastAPI, page: gr.Blocks, pictures: Path, allowance: Allowance = ALLOWANCE) -> None:
        gradio_app = _mounted(server)
        presence = Presence()
        self.uploads = Uploads(pictures, allowance)
        self.line = Line(page, presence, allowance, session_joined=lambda session: self.sessions[session])
        self.sessions = Sessions(
            page,
            allowance,
            lives=lambda session: presence.is_open(session) or self.line.is_busy(session),
            forget=self.line.forget,
        )
        page._queue = self.line
        gradio_app.state_holder = self.sessions
        # Innermost: whom others turn away never gets here, and what is said here gets the headers of every reply.
        server.user_middleware.append(
            Middleware(
                Gate,
                gradio_app=gradio_app,
                line=self.line,
                presence=presence,
                uploads=self.uploads,
                allowance=allowance,
            )
        )


def _mounted(server: FastAPI) -> GradioApp:
    """Gradio's own part of the server, which `mount_gradio_app` keeps to itself."""
    [found] = [route.app for route in server.routes if isinstance(route, Mount) and isinstance(route.app, GradioApp)]
    return found
