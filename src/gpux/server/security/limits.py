"""Limits of what one request may hold, checked before it is sent to a model's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpux.errors import TooLargeError
from gpux.server.settings import ServerSettings
from gpux.server.workers.messages import Answer, Count, Detokenize, Embed, Generate, Rank, Request, Tokenize

_HINT = "Send several requests, each with fewer or shorter inputs."


def check_request(request: Request, settings: ServerSettings) -> None:
    """Refuse a request with more inputs, or a longer text, than the settings allow.

    Raises:
        TooLargeError: it has; ``details`` has the ``limit``.
    """
    inputs = inputs_of(request)
    if isinstance(inputs, (list, tuple)) and len(inputs) > settings.max_inputs:
        raise TooLargeError(
            f"the request has {len(inputs)} inputs, and the server takes {settings.max_inputs}",
            hint=_HINT,
            limit=settings.max_inputs,
        )
    _check_files(files_of(inputs), settings)
    longest = longest_text(inputs)
    if isinstance(request, Rank):
        longest = max(longest, len(request.query))
    if longest > settings.max_text:
        raise TooLargeError(
            f"a text has {longest} characters, and the server takes {settings.max_text}",
            hint=_HINT,
            limit=settings.max_text,
        )


def _check_files(sizes: Sequence[int], settings: ServerSettings) -> None:
    if len(sizes) > settings.max_files:
        raise TooLargeError(
            f"the request has {len(sizes)} pictures and sounds, and the server takes {settings.max_files}",
            hint="Send several requests.",
            limit=settings.max_files,
        )
    if max(sizes, default=0) > settings.max_media:
        raise TooLargeError(
            f"a file has more than {settings.max_media} bytes, the most that the server takes",
            hint="Make it smaller.",
            limit=settings.max_media,
        )


def files_of(value: Any) -> list[int]:
    """The sizes of all bytes within lists and objects."""
    if isinstance(value, (bytes, bytearray)):
        return [len(value)]
    if isinstance(value, Mapping):
        return [size for one in value.values() for size in files_of(one)]
    if isinstance(value, (list, tuple)) and not (value and isinstance(value[0], (int, float))):
        return [size for one in value for size in files_of(one)]
    return []


def inputs_of(request: Request) -> Any:
    """The inputs of a request of any kind."""
    if isinstance(request, (Generate, Answer)):
        return request.inputs
    if isinstance(request, (Embed, Rank)):
        return request.texts
    if isinstance(request, Count):
        return request.inputs
    assert isinstance(request, (Tokenize, Detokenize))
    return request.texts if isinstance(request, Tokenize) else request.ids


def longest_text(value: Any) -> int:
    """Characters of the longest text within lists and objects, bytes left out: files have limits of their own.

    The depth of JSON is limited where it is read, see :func:`gpux.server.http.check_depth`.
    """
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return max((longest_text(one) for one in value.values()), default=0)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        if value and isinstance(value[0], (int, float)):  # token ids, samples of a sound
            return 0
        return max(map(longest_text, value), default=0)
    return 0
