"""The server's log on standard error, as text or as one JSON object a line.

Lines of requests have the path without its query, and nothing of bodies or headers but the request's id. Control
characters of paths are escaped, so that a request cannot write lines of its own.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from gpux.server import context

#: The logger of requests; the fields of a line are in ``record.request``.
ACCESS = "gpux.server.access"


def configure(style: str | None) -> None:
    """Write the logs of gpux and uvicorn to standard error.

    Args:
        style: ``text``, ``json``, or None for text without a line for each request.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gpux").setLevel(logging.INFO)
    logging.getLogger(ACCESS).setLevel(logging.INFO if style is not None else logging.ERROR)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING)


def printable(text: str) -> str:
    """Text without control characters or other characters that end or hide a line."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class TextFormatter(logging.Formatter):
    """``time level message [request id]``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it."""
        line = f"{_time(record)} {record.levelname.lower()} {printable(record.getMessage())}"
        if (id := _request_id(record)) is not None:
            line += f" {id}"
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


class JsonFormatter(logging.Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, ``request_id``, and the fields of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        found: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (id := _request_id(record)) is not None:
            found["request_id"] = id
        found.update(getattr(record, "request", {}))
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=True)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _request_id(record: logging.LogRecord) -> str | None:
    found = context.current()
    return found.id if found is not None else None
