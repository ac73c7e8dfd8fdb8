"""``/api/generate``."""

from __future__ import annotations

from typing import Annotated, Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.ollama.generation import Exchange, Said, load_or_unload, respond
from gpux.server.api.ollama.names import without_nulls
from gpux.server.api.ollama.options import Asked, checked
from gpux.server.api.openai.parameters import refused, supported
from gpux.server.core import TEXT_TASKS
from gpux.server.models import Loaded
from gpux.server.workers.messages import Generate, Parsing

_TEMPLATE = "the model's own chat template is used; `raw: true` sends the prompt without it"
_PICTURES = "answers are texts"


class GenerateRequest(Asked, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.ollama.options`."""

    prompt: Annotated[
        str | None,
        supported("a turn of the user where the model has a chat template; none: load the model, or unload it"),
    ] = None
    system: Annotated[str | None, supported("instructions before the prompt; needs a chat template")] = None
    raw: Annotated[bool | None, supported("continue the prompt as it is, without the chat template")] = None
    suffix: Annotated[Any, refused("put the text after the gap into a raw prompt, as the model expects it", "")] = None
    template: Annotated[Any, refused(_TEMPLATE, "")] = None
    context: Annotated[Any, refused("no answer has it; send earlier turns to `/api/chat`", [])] = None
    images: Annotated[Any, refused("the model reads texts only", [])] = None
    width: Annotated[Any, refused(_PICTURES, 0)] = None
    height: Annotated[Any, refused(_PICTURES, 0)] = None
    steps: Annotated[Any, refused(_PICTURES, 0)] = None


async def generate(call: Call) -> Response:
    """Answer a prompt; without one, load the model."""
    body: GenerateRequest = call.body
    options = checked(body)
    if body.raw and body.system:
        raise UsageError("raw and system cannot be combined", hint="Put the instructions into the prompt.", param="raw")
    exchange = Exchange.of(body, _content, "prompt", prepare=lambda loaded, request: _put_prompt(body, loaded, request))
    if not body.prompt:
        return await load_or_unload(call, exchange, TEXT_TASKS)
    request = Generate(0, [body.prompt], options, echo_tokens=exchange.logs, parsing=Parsing())
    return await respond(call, exchange, request, TEXT_TASKS)


def _content(said: Said) -> dict[str, Any]:
    return without_nulls({"response": said.text, "thinking": said.thinking or None})


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
