"""The guard: what goes wrong is told to people as a sentence, and to the log with all that is known.

Knows gradio's errors and the words; no models.
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
    """A sentence of ours, which may be shown. Gradio's own errors name paths and repeat values."""


@contextmanager
def guarded(where: str, language: Language) -> Iterator[None]:
    """Refusals become sentences in the visitor's language; anything else a number that the log knows.

    A path of the host or a traceback never reaches the visitor.
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
    """The error that shows the sentence of that key."""
    return Told(say(key, language, **facts), duration=8, print_exception=False)
