"""The picture field: gradio's, but what comes in is read by our own rules, and nothing is ever fetched.

Knows gradio's image component and the limits; no models.
"""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from app.limits import Refusal, read_picture


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
        """As gradio's, for files that were uploaded; an address is never fetched."""
        if url_or_file_path is not None and str(url_or_file_path).lower().startswith(("http:", "https:")):
            raise gr.Error("Upload the picture; addresses are not fetched.", print_exception=False)
        moved: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return moved
