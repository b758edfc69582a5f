"""Structured logs: one JSON object per line on standard error. Knows only the standard library's logging.

Visitors' questions and images are never logged, only their lengths and the time they took.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, where, event, and the facts passed with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON line."""
        row = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "where": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def log_as_json(level: int = logging.INFO) -> None:
    """Send all logging, including uvicorn's, to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # one line per polled file would drown out the rest
    logging.getLogger("httpx").setLevel(logging.WARNING)
