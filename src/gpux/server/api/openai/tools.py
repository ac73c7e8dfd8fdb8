"""Tools, their choice, and the calls of a conversation, as every API checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gpux.errors import UsageError
from gpux.server.workers.messages import Parsing

FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$")]
LongFunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,128}$")]
Choice = Literal["none", "auto", "required", "function"]


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None  #: JSON schema of its arguments, which are an object; None: it has none
    place: str  #: of its name in the request
    strict: bool = False  #: calls have the arguments of the schema, also where the model decides whether it calls

    @property
    def described(self) -> dict[str, Any]:
        """The tool as chat templates read it."""
        found: dict[str, Any] = {"name": self.name, "description": self.description or ""}
        found["parameters"] = self.parameters or {"type": "object", "properties": {}}
        return {"type": "function", "function": found}


def parsing_of(
    tools: Sequence[Tool],
    choice: Choice | None,
    function: str | None = None,
    *,
    parallel: bool | None = None,
    param: str = "tool_choice",
) -> Parsing:
    """How the answer is taken apart.

    Args:
        tools: of the request.
        choice: whether they are called; None: ``auto``.
        function: the tool that must be called, with ``function``.
        parallel: whether an answer may have several calls; None: it may.
        param: of the function's name in the request.

    Raises:
        UsageError: two tools have a name, or the choice names none of them.
    """
    names: list[str] = []
    for tool in tools:
        if tool.name in names:
            raise UsageError(f"two tools have the name {tool.name}", hint="Rename one.", param=tool.place)
        names.append(tool.name)
    if choice in ("required", "function") and not names:
        raise UsageError("tool_choice needs tools", hint="Add them, or omit it.", param="tool_choice")
    if function is not None and function not in names:
        raise UsageError(
            f"tool_choice names {function}, which is not among the tools",
            hint=f"The tools are {', '.join(names)}.",
            param=param,
        )
    strict = tuple(tool.name for tool in tools if tool.strict)
    return Parsing(choice or "auto", function, parallel is not False, strict)


class Calls:
    """The calls of a conversation so far, which results name by their ids."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def made(self, id: str | None, arguments: str | dict[str, Any], place: str) -> dict[str, Any]:
        """The arguments of a call, which an answer had.

        Args:
            id: of the call.
            arguments: an object, or its JSON text; an empty text is an empty object.
            place: of the arguments in the request.

        Raises:
            UsageError: the text is not JSON of an object.
        """
        if id is not None:
            self._ids.add(id)
        if not isinstance(arguments, str):
            return arguments
        try:
            return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            raise UsageError(
                f"{place} are not JSON of an object", hint="Send the arguments of the call as they were.", param=place
            ) from None

    def answered(self, id: str, place: str) -> None:
        """A result has arrived.

        Args:
            id: of its call.
            place: of the id in the request.

        Raises:
            UsageError: no call before it has the id.
        """
        if id not in self._ids:
            raise UsageError(
                f"{place} is {id[:100]!r}, and no call before it has this id",
                hint="Send the message with the call before its result.",
                param=place,
            )
