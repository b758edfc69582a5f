"""Checks the inputs of an event: each kind of component takes its own kind of value, and only an image field a file.

A file must have been uploaded to, or made by, this server; no other file on the machine can be named. Knows gradio's
components and the upload folder; no routes and no handlers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr

from evovlm_app.limits import Refusal
from evovlm_app.picture import Picture
from evovlm_app.uploads import uploaded

LONGEST_TEXT = 10_000  # characters; the fields' own limits are lower, and have their own messages
LONGEST_CHOICE = 200  # characters
MOST_CHOICES = 100
HIGHEST = 2**53
LARGEST = 1e300  # for numbers inside JSON data, whose ranges the handlers check themselves
DEEPEST = 12
FILE = {"_type": "gradio.FileData"}


def check_inputs(components: Sequence[Any], values: Sequence[Any], uploads: Path) -> list[Any]:
    """The checked values, with files reduced to their path.

    Raises Refusal for a value that its component does not accept, or if the number of values is wrong.
    """
    if len(components) != len(values):
        raise Refusal("bad_request")
    return [_rule(component)(component, value, uploads) for component, value in zip(components, values, strict=True)]


def _nothing(_: Any, value: Any, __: Path) -> None:
    """State is kept on the server, and never accepted from a client."""
    if value is not None:
        raise Refusal("bad_value")


def _picture(_: Any, value: Any, uploads: Path) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("meta") != FILE:
        raise Refusal("bad_value")
    path, url = value.get("path"), value.get("url")
    real = uploaded(path, uploads)
    # The browser sends back the URL that shows the file. It is not needed, and any other URL is an attack.
    own = f"/gradio_api/file={path}"
    if url is not None and not (isinstance(url, str) and (url.endswith(own) or unquote(url).endswith(own))):
        raise Refusal("not_uploaded")
    return {"path": str(real), "meta": FILE}


def _text(_: Any, value: Any, __: Path) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise Refusal("bad_value")
    return value if value is None or isinstance(value, str) else _finite(value)


def _html(_: Any, value: Any, __: Path) -> Any:
    if value is not None and not isinstance(value, str):
        raise Refusal("bad_value")
    return value


def _number(_: Any, value: Any, __: Path) -> Any:
    return None if value is None else _finite(value)


def _slider(_: Any, value: Any, __: Path) -> Any:
    return _finite(value)


def _choice(_: Any, value: Any, __: Path) -> Any:
    """Checks only the type and length: gradio checks the choices, since a visitor's choices change."""
    if value is not None and not (isinstance(value, str) and len(value) <= LONGEST_CHOICE):
        raise Refusal("bad_choice")
    return value


def _choices(component: Any, value: Any, uploads: Path) -> Any:
    if not isinstance(value, list) or len(value) > MOST_CHOICES or None in value:
        raise Refusal("bad_choice")
    return [_choice(component, one, uploads) for one in value]


def _row(component: Any, value: Any, _: Path) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(component.samples):
        raise Refusal("bad_choice")
    return value


def _data(_: Any, value: Any, __: Path) -> Any:
    check_plain(value)
    return value


def check_plain(value: Any, depth: int = 0) -> None:
    """Raises Refusal for data that gradio would treat as a file or component update, deep nesting, or huge numbers."""
    if depth > DEEPEST:
        raise Refusal("bad_value")
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) or not {"meta", "url", "__type__", "_type"}.isdisjoint(value):
            raise Refusal("bad_value")
        for part in value.values():
            check_plain(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            check_plain(part, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _finite(value, most=LARGEST)


def _finite(value: Any, most: float = HIGHEST) -> Any:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Refusal("bad_value")
    # In this order: an int may be too large to convert to a float.
    if abs(value) > most or not math.isfinite(value):
        raise Refusal("bad_value")
    return value


RULES: dict[type, Callable[[Any, Any, Path], Any]] = {
    Picture: _picture,
    gr.State: _nothing,
    gr.Textbox: _text,
    gr.HTML: _html,
    gr.Number: _number,
    gr.Slider: _slider,
    gr.Radio: _choice,
    gr.Dropdown: _choice,
    gr.CheckboxGroup: _choices,
    gr.Dataset: _row,
    gr.JSON: _data,
    gr.BrowserState: _text,
}


def _rule(component: Any) -> Callable[[Any, Any, Path], Any]:
    """The rule for a component; a kind without a rule accepts only None."""
    return next((rule for kind, rule in RULES.items() if isinstance(component, kind)), _nothing)
