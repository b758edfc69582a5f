"""Structured logs: one JSON object a line on standard error. Knows the standard library's logging alone.

Visitors' questions and pictures are never written, only how long they were and how long they took.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, where, event, and the facts given with it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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
    """Send everything that is logged, uvicorn's lines too, to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # a line a polled file would drown the rest
    logging.getLogger("httpx").setLevel(logging.WARNING)
