"""Paged responses: a slice of the entries, and a Link header to the next page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from tests.hub.messages import HubError, Request

T = TypeVar("T")


def take_page(request: Request, base_url: str, entries: Sequence[T], size: int) -> tuple[list[T], dict[str, str]]:
    """The page at the request's cursor, and the header with the URL of the next page.

    The link is absolute, names this server and repeats all parameters: clients follow it as it is, with their
    token. Raises HubError (400) for a cursor that this server did not make.
    """
    start = _read_cursor(request.value("cursor"))
    page = list(entries[start : start + size])
    if start + size >= len(entries):
        return page, {}
    parameters = {key: values for key, values in request.query.items() if key != "cursor"}
    parameters["cursor"] = [_make_cursor(start + size)]
    url = f"{base_url}{request.path}?{urlencode(parameters, doseq=True)}"
    return page, {"Link": f'<{url}>; rel="next"'}


def _make_cursor(start: int) -> str:
    return base64.urlsafe_b64encode(f"start={start}".encode()).decode()


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        start = int(base64.urlsafe_b64decode(cursor).removeprefix(b"start="))
    except (ValueError, binascii.Error):
        start = -1
    if start < 0:
        raise HubError(400, "Invalid cursor")
    return start
