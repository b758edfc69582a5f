"""The picture field: gradio's, but what comes in is read by our own rules, and nothing is ever fetched.

Knows gradio's image component and the limits; no models.
"""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from evovlm_app.limits import Refusal, read_picture
from evovlm_app.uploads import uploaded


class _WithoutStub(type(gr.Image)):  # type: ignore[misc]  # gradio is untyped here
    """Gradio writes a type stub beside every new kind of component; this one leaves the source folder alone."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)


class Picture(gr.Image, metaclass=_WithoutStub):  # type: ignore[misc]  # gradio is untyped here
    """An image that reaches handlers as fresh RGB pixels, or as the Refusal that says why it does not."""

    is_template = True  # gradio looks for its parent's page code

    def preprocess(self, payload: Any) -> Image.Image | Refusal | None:
        """The uploaded file, read anew. A data URL, which passes no limit on bytes, is refused."""
        if payload is None:
            return None
        if payload.path is None:
            return Refusal("no_picture")
        try:
            return read_picture(Path(payload.path))
        except Refusal as refusal:
            return refusal

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """The file, where it lies in the upload folder already: nothing is copied there, and no address is fetched."""
        return None if url_or_file_path is None else str(uploaded(str(url_or_file_path), Path(self.GRADIO_CACHE)))
