"""Replaces gradio's queue and sessions with the limited ones, and adds the request limits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App as GradioApp
from gradio.routes import file_upload_statuses
from starlette.middleware import Middleware
from starlette.routing import Mount

from evovlm_app.load.allowance import ALLOWANCE, Allowance
from evovlm_app.load.fair_queue import FairQueue
from evovlm_app.load.open_streams import OpenStreams
from evovlm_app.load.request_limits import RequestLimits
from evovlm_app.load.sessions import Sessions
from evovlm_app.load.upload_quota import UploadQuota, delete_strays

TIDY_EVERY = 60.0  # seconds


class Load:
    """The load limits of one server. Create it after gradio's page is mounted and before the server starts."""

    def __init__(self, server: FastAPI, page: gr.Blocks, pictures: Path, allowance: Allowance = ALLOWANCE) -> None:
        gradio_app = _mounted(server)
        open_streams = OpenStreams()
        self._pictures = pictures
        self.line = FairQueue(page, open_streams, allowance, session_joined=lambda session: self.sessions[session])
        self.sessions = Sessions(
            page,
            allowance,
            lives=lambda session: open_streams.is_open(session) or self.line.is_busy(session),
            forget=self.line.forget,
        )
        page._queue = self.line
        gradio_app.state_holder = self.sessions
        # Innermost: requests refused by other middleware never get here, and replies from here get all the headers.
        server.user_middleware.append(
            Middleware(
                RequestLimits,
                gradio_app=gradio_app,
                line=self.line,
                open_streams=open_streams,
                uploads=UploadQuota(pictures, allowance),
                allowance=allowance,
            )
        )

    async def tidy(self) -> None:
        """Every TIDY_EVERY seconds, delete what uploads have left behind, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_EVERY)
            forget_uploads()
            await asyncio.to_thread(delete_strays, self._pictures)


def forget_uploads() -> None:
    """Delete the progress data of finished uploads, and of uploads that were queried but never started.

    Gradio keeps both forever unless a client listens to the end.
    """
    known = file_upload_statuses._statuses
    for name in list(file_upload_statuses._signals):
        if name not in known or known[name].is_done:
            known.pop(name, None)
            del file_upload_statuses._signals[name]


def _mounted(server: FastAPI) -> GradioApp:
    """The mounted gradio app, which `mount_gradio_app` does not return."""
    [found] = [route.app for route in server.routes if isinstance(route, Mount) and isinstance(route.app, GradioApp)]
    return found
