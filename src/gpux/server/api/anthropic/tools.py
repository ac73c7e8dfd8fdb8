"""Tools, their choice and ``thinking`` of Anthropic's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from gpux.errors import UsageError
from gpux.server.api.openai.parameters import check, ignored, refused, supported
from gpux.server.api.openai.tools import Choice, LongFunctionName, parsing_of
from gpux.server.api.openai.tools import Tool as Function
from gpux.server.workers.messages import Parsing

TOOLS = "functions, for models whose chat template has tools; tools of Anthropic's servers are refused"
CHOICE = (
    "`auto`, `none`, which hides the tools from the model, and `any` and `tool`, which are enforced token by token; "
    "`disable_parallel_tool_use` limits calls that are enforced to one"
)


class Thinking(msgspec.Struct, forbid_unknown_fields=True):
    """``thinking``."""

    type: Annotated[
        Literal["enabled", "disabled", "adaptive"],
        supported("whether the model reasons, by the variable of its chat template; refused where it cannot be chosen"),
    ]
    budget_tokens: Annotated[int | None, ignored("reasoning ends where the model ends it, or at `max_tokens`")] = None
    display: Annotated[str | None, ignored("the whole reasoning is returned", "summarized")] = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """One of ``tools``."""

    name: Annotated[LongFunctionName, supported("letters, digits, `_`, `-` and `.`")]
    input_schema: Annotated[dict[str, Any], supported("JSON schema of the input")]
    description: Annotated[str | None, supported("what the tool does")] = None
    type: Annotated[Literal["custom"] | None, supported("tools of other types run on a server, and are refused")] = None
    strict: Annotated[bool | None, supported("calls have the input of the schema, also with `auto`")] = None
    cache_control: Annotated[Any, ignored("prompts that begin alike are found without it")] = None
    eager_input_streaming: Annotated[bool | None, ignored("input is always sent as it is written")] = None
    input_examples: Annotated[list[Any] | None, refused("put them into the description", [])] = None
    defer_loading: Annotated[bool | None, ignored("the model reads all tools", False)] = None
    allowed_callers: Annotated[list[str] | None, ignored("the client runs the tools", ["direct"])] = None


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """``tool_choice``."""

    type: Literal["auto", "any", "tool", "none"]
    name: LongFunctionName | None = None
    disable_parallel_tool_use: bool | None = None


def wanted_thinking(given: Thinking | None) -> bool | None:
    """Whether the model shall reason; None: it decides.

    Raises:
        UsageError: what is given is not supported.
    """
    if given is None:
        return None
    check(given, "thinking.")
    return None if given.type == "adaptive" else given.type == "enabled"


def put_tools(options: dict[str, Any], tools: Sequence[Tool] | None, choice: ToolChoice | None) -> Parsing:
    """Put the tools into the options of the pipeline's call; how the answer is taken apart.

    Raises:
        UsageError: a tool or the choice is not supported.
    """
    found = []
    for number, one in enumerate(tools or ()):
        check(one, f"tools[{number}].")
        place = f"tools[{number}].name"
        found.append(Function(one.name, one.description, one.input_schema, place, bool(one.strict)))
    if found:
        options["tools"] = [one.described for one in found]
    if choice is None:
        return parsing_of(found, "auto")
    if (choice.name is None) == (choice.type == "tool"):
        problem = "needs a name" if choice.name is None else "has a name"
        raise UsageError(
            f"tool_choice of the type {choice.type} {problem}",
            hint='Send {"type": "tool", "name": …}.',
            param="tool_choice.name",
        )
    kind = _CHOICES[choice.type]
    parallel = choice.disable_parallel_tool_use is not True
    return parsing_of(found, kind, choice.name, parallel=parallel, param="tool_choice.name")


_CHOICES: dict[str, Choice] = {"auto": "auto", "none": "none", "any": "required", "tool": "function"}
