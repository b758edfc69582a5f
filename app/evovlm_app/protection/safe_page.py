"""Gradio's page, made safe to show to strangers: inputs are checked before gradio reads them, and errors say nothing.

Whatever goes wrong becomes one of our own sentences; what gradio says of it, with paths and values, goes to the log at
most. Knows gradio's Blocks and the guard; no tabs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from evovlm_app.error_messages import Told, guarded, told
from evovlm_app.protection.event_inputs import check_inputs
from evovlm_app.words import Language


class SafePage(gr.Blocks):  # type: ignore[misc]  # gradio is untyped here
    """Blocks whose events take only what their inputs are for. `language`: the state that holds a visitor's."""

    language: Any = None

    def shut(self) -> None:
        """Have gradio check paths by its own rules too; it does so only after a launch, which mounting leaves out."""
        self.has_launched = True
        self.is_running = True

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """As gradio's, for values that have been checked."""
        language = self._spoken(state)
        with guarded("inputs", language):
            checked = check_inputs(block_fn.inputs, inputs, Path(get_upload_folder()))
        try:
            taken: list[Any] = await super().preprocess_data(block_fn, checked, state, explicit_call)
        except Told:
            raise
        except Exception:  # gradio's own refusals repeat the value
            raise told("bad_choice", language) from None
        return taken

    async def process_api(self, *given: Any, **named: Any) -> dict[str, Any]:
        """As gradio's; what goes wrong is a sentence with a number that the log knows."""
        with guarded("event", self._spoken(named.get("state"))):
            done: dict[str, Any] = await super().process_api(*given, **named)
        return done

    def _spoken(self, state: Any) -> Language:
        spoken = state[self.language._id] if state is not None and self.language is not None else "en"
        return "ja" if spoken == "ja" else "en"
