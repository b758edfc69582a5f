"""Sessions: gradio's data per visitor, made small and limited in number.

Knows gradio's sessions; no queue and no pages.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState, StateHolder

from evovlm_app.load.allowance import Allowance
from evovlm_app.load.clients import CURRENT, NOBODY


class LeanSession(SessionState):  # type: ignore[misc]  # gradio is untyped here
    """A session without a copy of the whole page's configuration, which took 0.2 MB and 50 ms per session.

    Gradio keeps that copy for links to a page's state (`/deep_link`), which this app does not offer.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        # Gradio's constructor copies the configuration of the blocks in `blocks`, so pass none.
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Sessions(StateHolder):  # type: ignore[misc]  # gradio is untyped here
    """Sessions by name. Live sessions stay; of the others, the client with the most loses its least recently used one.

    So a client that creates many sessions loses only its own. A session is live, according to `lives`, while it has an
    open stream or a waiting or running event. `forget` deletes a session's data elsewhere.
    """

    def __init__(
        self, page: gr.Blocks, allowance: Allowance, *, lives: Callable[[str], bool], forget: Callable[[str], object]
    ) -> None:
        super().__init__()
        self._allowance = allowance
        self._lives = lives
        self._forget = forget
        self._owners: dict[str, str] = {}
        self.set_blocks(page)

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LeanSession(self.blocks)
            self._owners[session_id] = CURRENT.get()
            self._make_room(session_id)
        return super().__getitem__(session_id)

    def __len__(self) -> int:
        return len(self.session_data)

    def delete_all_expired_state(self) -> None:
        """Like gradio's, which is called every second; also deletes sessions unused for `session_age` seconds."""
        super().delete_all_expired_state()
        oldest = datetime.datetime.now() - datetime.timedelta(seconds=self._allowance.session_age)
        for session, used in list(self.time_last_used.items()):
            if used < oldest and not self._lives(session):
                self.drop(session)

    def drop(self, session: str) -> None:
        """Delete a session and all its data."""
        self.delete_state(session)
        self.session_data.pop(session, None)
        self.time_last_used.pop(session, None)
        self._owners.pop(session, None)
        self._forget(session)

    def _make_room(self, newest: str) -> None:
        lifeless = [session for session in self.session_data if session != newest and not self._lives(session)]
        if len(lifeless) <= self._allowance.sessions:
            return
        owners = [self._owners.get(session, NOBODY) for session in lifeless]
        [(most, _)] = Counter(owners).most_common(1)
        self.drop(lifeless[owners.index(most)])
