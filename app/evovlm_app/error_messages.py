"""Error guard: visitors see a sentence; the log gets the details.

Knows gradio's errors and the texts; no models.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from evovlm_app.limits import Refusal
from evovlm_app.words import Language, say

log = logging.getLogger(__name__)


class Told(gr.Error):  # type: ignore[misc]  # gradio is untyped here
    """An error with a sentence of ours, which is safe to show. Gradio's own errors contain paths and values."""


@contextmanager
def guarded(where: str, language: Language) -> Iterator[None]:
    """Turn a Refusal into a sentence in the visitor's language, and other errors into a reference number.

    The traceback is logged with the same number. Visitors never see host paths or tracebacks. Raises Told.
    """
    try:
        yield
    except Told:
        raise
    except Refusal as refusal:
        log.info("refused", extra={"facts": {"where": where, "why": refusal.key}})
        raise told(refusal.key, language, **refusal.facts) from None
    except FloatingPointError:
        raise told("broken_weights", language) from None
    except Exception as error:
        reference = secrets.token_hex(4)
        log.exception("unexpected", extra={"facts": {"where": where, "reference": reference, "error": repr(error)}})
        raise told("unexpected", language, reference=reference) from None


def told(key: str, language: Language, **facts: object) -> Told:
    """The error that shows the sentence of a key in `words`."""
    return Told(say(key, language, **facts), duration=8, print_exception=False)
