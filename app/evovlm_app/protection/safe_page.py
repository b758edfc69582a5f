"""Gradio's page, made safe for strangers: inputs are checked before gradio reads them, and errors reveal nothing.

Every error becomes one of our own sentences; gradio's own messages, with paths and values, go at most to the log. Knows
gradio's Blocks and the error guard; no tabs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from evovlm_app.error_messages import Told, guarded, told
from evovlm_app.protection.event_inputs import check_inputs
from evovlm_app.words import Language

log = logging.getLogger(__name__)


class SafePage(gr.Blocks):  # type: ignore[misc]  # gradio is untyped here
    """Blocks whose events accept only checked inputs. `language`: the gr.State with the visitor's language."""

    language: Any = None

    def shut(self) -> None:
        """Enable gradio's own path checks too, which otherwise start with `launch`; a mounted app is not launched."""
        self.has_launched = True
        self.is_running = True

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Like gradio's, with the inputs checked first. Raises Told."""
        language = self._spoken(state)
        with guarded("inputs", language):
            checked = check_inputs(block_fn.inputs, inputs, Path(get_upload_folder()))
        try:
            taken: list[Any] = await super().preprocess_data(block_fn, checked, state, explicit_call)
        except Told:
            raise
        except Exception as error:  # gradio's own messages repeat the value: neither visitors nor the log get them
            log.info("refused", extra={"facts": {"where": "inputs", "why": type(error).__name__}})
            raise told("bad_choice", language) from None
        return taken

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """Like gradio's, but an error becomes a sentence with a reference number for the log. Raises Told."""
        with guarded("event", self._spoken(named.get("state"))):
            done: dict[str, Any] = await super().process_api(*given, **named)
        return done

    def _spoken(self, state: Any) -> Language:
        spoken = state[self.language._id] if state is not None and self.language is not None else "en"
        return "ja" if spoken == "ja" else "en"
