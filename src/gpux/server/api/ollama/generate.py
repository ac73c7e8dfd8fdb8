"""``/api/generate``."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.chat import Think, thinking
from gpux.server.api.ollama.generation import Exchange, load_or_unload, log_options, respond
from gpux.server.api.ollama.names import Name, required
from gpux.server.api.ollama.options import (
    Format,
    KeepAlive,
    Options,
    call_options,
    keep_alive_seconds,
    response_format,
)
from gpux.server.api.openai.parameters import Alternatives, check, refused, supported
from gpux.server.core import TEXT_TASKS
from gpux.server.models import Loaded
from gpux.server.workers.messages import Generate

_TEMPLATE = "the model's own chat template is used; `raw: true` sends the prompt without it"
_PICTURES = "answers are texts"


class GenerateRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.ollama.options`."""

    model: Annotated[Name, supported("reference of a stored model, such as `org/name:int4`")]
    prompt: Annotated[
        str | None,
        supported("a turn of the user where the model has a chat template; none: load the model, or unload it"),
    ] = None
    system: Annotated[str | None, supported("instructions before the prompt; needs a chat template")] = None
    raw: Annotated[bool | None, supported("continue the prompt as it is, without the chat template")] = None
    stream: Annotated[bool | None, supported("true by default")] = None
    format: Annotated[Format, supported("`json` or a JSON schema, enforced token by token")] = None
    options: Annotated[Options | None, supported("see below")] = None
    keep_alive: Annotated[
        KeepAlive, supported("seconds, or `5m`; -1: for ever; 0: unload after the answer; by default `--keep-alive`")
    ] = None
    think: Annotated[Think | None, supported("`false`: the template's `enable_thinking` is false; else refused")] = None
    logprobs: Annotated[bool | None, supported("of the model's own distribution")] = None
    top_logprobs: Annotated[Alternatives | None, supported("needs `logprobs: true`")] = None
    suffix: Annotated[Any, refused("put the text after the gap into a raw prompt, as the model expects it", "")] = None
    template: Annotated[Any, refused(_TEMPLATE, "")] = None
    context: Annotated[Any, refused("no answer has it; send earlier turns to `/api/chat`", [])] = None
    images: Annotated[Any, refused("the model reads texts only", [])] = None
    truncate: Annotated[Any, refused("a prompt that does not fit into the context is refused", False)] = None
    shift: Annotated[Any, refused("an answer ends at the end of the context", False)] = None
    width: Annotated[Any, refused(_PICTURES, 0)] = None
    height: Annotated[Any, refused(_PICTURES, 0)] = None
    steps: Annotated[Any, refused(_PICTURES, 0)] = None


async def generate(call: Call) -> Response:
    """Answer a prompt; without one, load the model."""
    body: GenerateRequest = call.body
    check(body)
    if body.options is not None:
        check(body.options, "options.")
    if body.raw and body.system:
        raise UsageError("raw and system cannot be combined", hint="Put the instructions into the prompt.", param="raw")
    exchange = Exchange(
        required(body.model),
        _content,
        "prompt",
        body.stream is not False,
        keep_alive_seconds(body.keep_alive),
        bool(body.logprobs),
        lambda loaded, request: _put_prompt(body, loaded, request),
    )
    if not body.prompt:
        return await load_or_unload(call, exchange, TEXT_TASKS)
    options = {
        **call_options(body.options),
        **log_options(body.logprobs, body.top_logprobs),
        **thinking(body.model, body.think),
    }
    if (wanted := response_format(body.format)) is not None:
        options["response_format"] = wanted
    request = Generate(0, [body.prompt], options, echo_tokens=bool(body.logprobs))
    return await respond(call, exchange, request, TEXT_TASKS)


def _content(text: str) -> dict[str, Any]:
    return {"response": text}


def _put_prompt(body: GenerateRequest, loaded: Loaded, request: Generate) -> None:
    """A prompt is a turn of a chat where the model has a template."""
    if loaded.worker.info.chat and not body.raw:
        system = [{"role": "system", "content": body.system}] if body.system else []
        request.inputs = [[*system, {"role": "user", "content": body.prompt}]]
    else:
        request.options.pop("chat_template_kwargs", None)
        if body.system:
            raise UsageError(
                "system needs a model with a chat template", hint="Put it into the prompt.", param="system"
            )
