"""The guard: what goes wrong is told to people as a sentence, and to the log with all that is known.

Knows gradio's errors and the words; no models.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from app.limits import Refusal
from app.words import Language, say

log = logging.getLogger(__name__)


@contextmanager
def guarded(where: str, language: Language) -> Iterator[None]:
    """Refusals become sentences in the visitor's language; anything else a number that the log knows.

    A path of the host or a traceback never reaches the visitor.
    """
    try:
        yield
    except gr.Error:
        raise
    except Refusal as refusal:
        log.info("refused", extra={"facts": {"where": where, "why": refusal.key}})
        raise _told(say(refusal.key, language, **refusal.facts)) from None
    except FloatingPointError:
        raise _told(say("broken_weights", language)) from None
    except Exception as error:
        reference = secrets.token_hex(4)
        log.exception("unexpected", extra={"facts": {"where": where, "reference": reference, "error": repr(error)}})
        raise _told(say("unexpected", language, reference=reference)) from None


def _told(sentence: str) -> gr.Error:
    return gr.Error(sentence, duration=8, print_exception=False)
