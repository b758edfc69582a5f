"""JSON requests to the server: parsed, checked against the page's events, and rewritten with the checked parts only.

Knows the page's events and their inputs; no routes and no models. Raises Refusal for invalid requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evovlm_app.limits import Refusal
from evovlm_app.protection.event_inputs import check_inputs

SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
SURROGATE = re.compile("[\ud800-\udfff]")
MOST_EVENTS = 2**31


class EventRequests:
    """Checks requests to the events of a page. `uploads`: the only folder whose files may be named."""

    def __init__(self, page: Any, uploads: Path) -> None:
        self._page = page
        self._uploads = uploads
        self._named: dict[str, dict[str, Any]] = {}

    def join(self, raw: bytes) -> bytes:
        """The body of a request to queue an event, given by number."""
        return self._event(_read(raw), None)

    def run(self, raw: bytes, name: str) -> bytes:
        """The body of a request to run an unqueued event, given by number or name."""
        return self._event(_read(raw), name)

    def call(self, raw: bytes, name: str) -> bytes:
        """The body of a call of a named event, with a list of inputs; the visitor's own states may be omitted."""
        return self._call(_read(raw), name)

    def call_by_name(self, raw: bytes, name: str) -> bytes:
        """The body of a call of a named event with inputs given by name, converted to a body of `call`."""
        given = _read(raw)
        session = given.pop("session_hash", None)
        inputs = self._parameters(name)
        values = []
        for parameter in inputs:
            if parameter["parameter_name"] not in given and not parameter.get("parameter_has_default"):
                raise Refusal("bad_request")
            values.append(given.pop(parameter["parameter_name"], parameter.get("parameter_default")))
        if given:
            raise Refusal("bad_request")
        return self._call({"data": values, "session_hash": session}, name)

    def cancel(self, raw: bytes) -> bytes:
        """The body of a request to cancel an event."""
        given = _read(raw)
        event = given.get("event_id")
        return _written(
            session_hash=checked_session(given.get("session_hash")),
            fn_index=self._number(given.get("fn_index"), self._page.fns, "no_event"),
            event_id=checked_session(event),
        )

    def reset(self, raw: bytes) -> bytes:
        """The body of a request that old clients send; it has no effect."""
        return _written(event_id=checked_session(_read(raw).get("event_id")))

    def _event(self, given: dict[str, Any], name: str | None) -> bytes:
        index, session = given.get("fn_index"), given.get("session_hash")
        if index is None and name is not None:
            index = self._of_name(name, lambda event: not event.queue)
        event = self._page.fns[self._number(index, self._page.fns, "no_event")]
        # Queued events must be joined, unqueued ones run directly.
        if event.fn is None or event.queue != (name is None):
            raise Refusal("no_event")
        if name is None or session is not None:
            checked_session(session)
        trigger = given.get("trigger_id")
        if trigger is not None and trigger != 0:  # 0 is the page itself
            self._number(trigger, self._page.blocks, "bad_request")
        return _written(
            data=self._data(event.inputs, given),
            fn_index=event._id,
            session_hash=session,
            trigger_id=trigger,
            event_data=_selected(given.get("event_data")) if event.collects_event_data else None,
        )

    def _call(self, given: dict[str, Any], name: str) -> bytes:
        event = self._page.fns[self._of_name(name, lambda event: event.api_visibility == "public")]
        session = given.get("session_hash")
        if session is not None:
            checked_session(session)
        inputs = event.inputs
        if isinstance(given.get("data"), list) and len(given["data"]) != len(inputs):
            inputs = [component for component in inputs if not component.skip_api]
        return _written(data=self._data(inputs, given), session_hash=session)

    def _data(self, components: list[Any], given: dict[str, Any]) -> list[Any]:
        values = given.get("data")
        if not isinstance(values, list):
            raise Refusal("bad_request")
        return check_inputs(components, values, self._uploads)

    def _of_name(self, name: str, fits: Callable[[Any], bool]) -> int:
        for index, event in self._page.fns.items():
            if event.api_name == name and event.fn is not None and fits(event):
                return int(index)
        raise Refusal("no_event")

    def _parameters(self, name: str) -> list[dict[str, Any]]:
        if not self._named:
            self._named = self._page.get_api_info()["named_endpoints"]
        if f"/{name}" not in self._named:
            raise Refusal("no_event")
        found: list[dict[str, Any]] = self._named[f"/{name}"]["parameters"]
        return found

    @staticmethod
    def _number(value: Any, known: dict[int, Any], key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refusal("bad_request")
        if value not in known:
            raise Refusal(key)
        return value


def checked_session(value: Any) -> str:
    """A session or event id. Raises Refusal if it does not have the format that clients use."""
    if not isinstance(value, str) or not SESSION.fullmatch(value):
        raise Refusal("bad_request")
    return value


def _selected(value: Any) -> dict[str, Any]:
    """The selection, reduced to its index: the browser also sends the image, which is not needed."""
    index = value.get("index") if isinstance(value, dict) else None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < MOST_EVENTS:
        raise Refusal("bad_request")
    return {"index": index, "value": None, "selected": True}


def _read(raw: bytes) -> dict[str, Any]:
    """The body as a dict. Raises Refusal if it is not JSON, not an object, or not valid Unicode."""
    try:
        text = raw.decode("utf-8")
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal("bad_request") from None
    if not isinstance(found, dict) or SURROGATE.search(json.dumps(found, ensure_ascii=False)):
        raise Refusal("bad_request")
    return found


def _no_number(_: str) -> float:
    raise ValueError("NaN and Infinity are not valid JSON")


def _written(**body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8")
