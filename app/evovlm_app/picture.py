"""The image field: gradio's, except that uploads are read by our own rules and no URL is ever fetched.

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
    """Keeps gradio from writing a type stub into the source folder, which it does for every new component class."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)


class Picture(gr.Image, metaclass=_WithoutStub):  # type: ignore[misc]  # gradio is untyped here
    """An image field whose handlers receive newly decoded RGB pixels, or the Refusal if the image was refused."""

    is_template = True  # gradio then uses the parent's frontend code

    def preprocess(self, payload: Any) -> Image.Image | Refusal | None:
        """The uploaded file, decoded again. A data URL is refused, since no size limit applies to it."""
        if payload is None:
            return None
        if payload.path is None:
            return Refusal("no_picture")
        try:
            return read_picture(Path(payload.path))
        except Refusal as refusal:
            return refusal

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """The path of a file that is already in the upload folder: nothing is copied, and no URL is fetched.

        Raises Refusal for any other path.
        """
        return None if url_or_file_path is None else str(uploaded(str(url_or_file_path), Path(self.GRADIO_CACHE)))
