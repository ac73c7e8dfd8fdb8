"""``/v1/messages/count_tokens``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gpux.server.api.anthropic.content import InputMessage, TextBlock, conversation
from gpux.server.api.anthropic.errors import REQUEST_ID, request_id
from gpux.server.api.anthropic.tools import Thinking, Tool, ToolChoice, put_tools, wanted_thinking
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.chat import TASKS
from gpux.server.api.openai.messages import plain
from gpux.server.api.openai.parameters import check, extension, ignored, supported
from gpux.server.api.openai.thinking import think
from gpux.server.core import Core
from gpux.server.http import json_response, until_disconnected
from gpux.server.models import Loaded
from gpux.server.workers.messages import Count, Parsing


class CountRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a request; see :mod:`gpux.server.api.openai.parameters`."""

    model: Annotated[str, supported("reference of a stored model")]
    messages: Annotated[Annotated[list[InputMessage], Meta(min_length=1)], supported("as of a message")]
    system: Annotated[str | list[TextBlock] | None, supported("a text or blocks")] = None
    tools: Annotated[list[Tool] | None, supported("as of a message")] = None
    tool_choice: Annotated[ToolChoice | None, supported("`none` hides the tools from the model")] = None
    thinking: Annotated[Thinking | None, supported("as of a message")] = None
    cache_control: Annotated[Any, ignored("prompts that begin alike are found without it")] = None
    output_config: Annotated[Any, ignored("a format is not part of the prompt")] = None
    speed: Annotated[str | None, ignored("there is one speed", "standard")] = None
    user_profile_id: Annotated[str | None, ignored("not stored")] = None
    workspace_id: Annotated[str | None, ignored("not stored")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, extension("variables of the model's chat template")] = None


async def count_tokens(call: Call) -> Response:
    """Count the tokens of a prompt."""
    body: CountRequest = call.body
    check(body)
    prompt = plain(conversation(body.system, body.messages))
    options = {"chat_template_kwargs": body.chat_template_kwargs} if body.chat_template_kwargs else {}
    parsing = put_tools(options, body.tools, body.tool_choice)
    wanted = wanted_thinking(body.thinking)

    async def count() -> int:
        async with call.core.models.lease(body.model, TASKS) as loaded:
            return await counted(call.core, loaded, prompt, options, parsing, wanted=wanted)

    found = await until_disconnected(call.request, count())
    response = json_response({"input_tokens": found})
    response.headers[REQUEST_ID] = request_id()
    return response


async def counted(
    core: Core,
    loaded: Loaded,
    prompt: list[dict[str, Any]],
    options: Mapping[str, Any],
    parsing: Parsing,
    *,
    wanted: bool | None = None,
) -> int:
    """Tokens of a prompt.

    Args:
        core: of the server.
        loaded: the model, which the caller leases.
        prompt: messages, as a chat template takes them.
        options: of the pipeline's call.
        parsing: which says whether the model reads the tools.
        wanted: whether the model shall reason; None: as the options say.
    """
    names = ("chat_template_kwargs",) if parsing.choice == "none" else ("chat_template_kwargs", "tools")
    kept = {name: options[name] for name in names if name in options}
    if wanted is not None:
        think(loaded, kept, wanted, param="thinking")
    return (await core.count(loaded, Count(0, [prompt], kept))).tokens[0]
