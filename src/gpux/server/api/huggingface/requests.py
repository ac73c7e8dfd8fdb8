"""Bodies of ``/models/{id}``: JSON with ``inputs`` and ``parameters``, the content of a file, or a form with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.http import decode_json, is_form, read_content, read_form

#: Keys that clients add to a body and that decide nothing here.
_WITHOUT_EFFECT = frozenset({"options", "model", "provider"})


@dataclass(frozen=True)
class Inference:
    """One request to a model."""

    inputs: Any  #: as the pipeline takes them; bytes of a file
    parameters: dict[str, Any] = field(default_factory=dict)
    stream: bool = False


async def read_inference(call: Call) -> Inference:
    """The request of a call.

    Keys beside ``inputs`` and ``parameters`` are parameters too, as clients send those of feature-extraction.

    Raises:
        UsageError: it is JSON without ``inputs``, or ``parameters`` is no object.
        GpuxError: see :func:`gpux.server.http.read_content` and :func:`gpux.server.http.read_form`.
    """
    if is_form(call.request):
        return await _read_form(call)
    body, is_json = await read_content(call.request, call.core.settings)
    if not is_json:
        if not body:
            raise UsageError("the body is empty", hint='Send {"inputs": …}, or the content of a file.')
        return Inference(body)
    given = decode_json(body, dict[str, Any])
    if given.get("inputs") is None:
        raise UsageError("the body has no inputs", hint='Send {"inputs": …, "parameters": {…}}.', param="inputs")
    parameters = _parameters(given.get("parameters"))
    stream = given.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise UsageError("stream is neither true nor false", hint="Omit it.", param="stream")
    root = {
        name: value
        for name, value in given.items()
        if name not in _WITHOUT_EFFECT and name not in ("inputs", "parameters", "stream")
    }
    found = {name: value for name, value in {**root, **parameters}.items() if value is not None}
    return Inference(given["inputs"], found, bool(stream))


async def _read_form(call: Call) -> Inference:
    """A form with the file ``inputs`` and, as JSON, the field ``parameters``."""
    form = await read_form(call.request, call.core.settings)
    data = call.core.media.upload(form, "inputs")
    if other := next((name for name in form.fields if name != "parameters"), None):
        raise UsageError(f"the form has a field {other[:100]!r}", hint="Put it into parameters.", param=other)
    text = form.field("parameters") or "{}"
    try:
        given = decode_json(text.encode(), dict[str, Any])
    except UsageError as error:
        raise UsageError(
            "parameters is not an object of JSON", hint="curl: -F 'parameters={\"top_k\": 3}'", param="parameters"
        ) from error
    return Inference(data, {name: value for name, value in given.items() if value is not None})


def _parameters(given: Any) -> Mapping[str, Any]:
    found = given or {}
    if not isinstance(found, Mapping):
        raise UsageError("parameters is not an object", hint='Send {"parameters": {…}}.', param="parameters")
    return found
