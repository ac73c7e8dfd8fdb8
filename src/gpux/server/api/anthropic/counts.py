"""``/v1/messages/count_tokens``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.server.api.anthropic.content import InputMessage, TextBlock, conversation
from gpux.server.api.anthropic.errors import REQUEST_ID, request_id
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import TASKS
from gpux.server.api.openai.messages import plain
from gpux.server.api.openai.parameters import check, extension, ignored, refused, supported
from gpux.server.core import Core
from gpux.server.http import json_response, until_disconnected
from gpux.server.workers.messages import Count

_NO_TOOLS = "describe the tools in a message"


class CountRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    model: Annotated[str, supported("reference of a stored model")]
    messages: Annotated[Annotated[list[InputMessage], Meta(min_length=1)], supported("as of a message")]
    system: Annotated[str | list[TextBlock] | None, supported("a text or blocks")] = None
    cache_control: Annotated[Any, ignored("prompts that begin alike are found without it")] = None
    output_config: Annotated[Any, ignored("a format is not part of the prompt")] = None
    speed: Annotated[str | None, ignored("there is one speed", "standard")] = None
    thinking: Annotated[Any, ignored("set what the template knows with `chat_template_kwargs`")] = None
    user_profile_id: Annotated[str | None, ignored("not stored")] = None
    workspace_id: Annotated[str | None, ignored("not stored")] = None
    tools: Annotated[Any, refused(_NO_TOOLS, [])] = None
    tool_choice: Annotated[Any, refused(_NO_TOOLS, {"type": "none"}, {"type": "auto"})] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, extension("variables of the model's chat template")] = None


async def count_tokens(call: Call) -> Response:
    """Count the tokens of a prompt."""
    body: CountRequest = call.body
    check(body)
    prompt = plain(conversation(body.system, body.messages))
    kept = body.chat_template_kwargs
    found = await until_disconnected(call.request, counted(call.core, body.model, prompt, kept))
    response = json_response({"input_tokens": found})
    response.headers[REQUEST_ID] = request_id()
    return response


async def counted(core: Core, model: str, prompt: list[dict[str, Any]], template: Mapping[str, Any] | None) -> int:
    """Tokens of a prompt.

    Args:
        core: of the server.
        model: its name in the request.
        prompt: messages, as a chat template takes them.
        template: variables of the template.
    """
    options = {"chat_template_kwargs": dict(template)} if template else {}
    async with core.models.lease(model, TASKS) as loaded:
        return (await core.count(loaded, Count(0, [prompt], options))).tokens[0]
