"""What the fields of the schema answer. Fields without a function here are attributes of the values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import msgspec
from ariadne import MutationType, ObjectType, QueryType, ScalarType
from graphql import GraphQLError, GraphQLResolveInfo, IntValueNode, ValueNode

from gpux.chat.api.graphql.limits import Cost
from gpux.chat.api.health import provider_states
from gpux.chat.codes import error_code
from gpux.chat.database.values import Conversation, StoredImage, StoredMessage, UsageStats
from gpux.chat.provider import checked_options
from gpux.chat.service import ChatService
from gpux.chat.streams import Asked, Failed, Session
from gpux.chat.values import ModelDetails, ModelInfo, ProviderHealth
from gpux.errors import GpuxError, TooLargeError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.security.redaction import public, shown

_T = TypeVar("_T")
#: Conversations or messages of one field at most.
MOST_ROWS = 1000
#: Seconds that the end of a terminated answer is waited for.
ENDING = 5.0
_LONG = 2**53  # larger numbers are not exact in JavaScript


@dataclass(frozen=True)
class Context:
    """One request."""

    call: Call
    chat: ChatService
    cost: Cost = field(default_factory=Cost)
    _found: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)

    async def once(self, key: Hashable, find: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What is found for a key, which is looked for once in a request."""
        if key not in self._found:
            self._found[key] = task = asyncio.create_task(find())
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # the caller may be gone
        found: _T = await asyncio.shield(self._found[key])
        return found

    @property
    def owner(self) -> str | None:
        """Id of the key; None: no key is needed."""
        return self.call.core.access.key_id(self.call.request)

    async def conversation(self, id: str, password: str | None) -> Conversation:
        """A conversation that the caller may use.

        Raises:
            ConversationNotFoundError: the id is unknown.
            ConversationAccessError: it is private, or of another key.
        """
        return await self.chat.database.conversations.get(id, password, owner=self.owner)

    def may_infer(self) -> None:
        """Refuse a key that may only read.

        Raises:
            ForbiddenError: it does not have the scope.
        """
        self.call.core.access.check(self.call.request, "infer")


Info = GraphQLResolveInfo[Context]


# Scalars


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _long(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_LONG <= value <= _LONG:
        raise GraphQLError("a whole number between -2^53 and 2^53 is needed")
    return value


def _long_literal(node: ValueNode, variables: Any = None) -> int:
    if not isinstance(node, IntValueNode) or len(node.value) > 17:
        raise GraphQLError("a whole number between -2^53 and 2^53 is needed", node)
    return _long(int(node.value))


time_scalar = ScalarType("DateTime", serializer=_time)
long_scalar = ScalarType("Long", serializer=lambda value: value, value_parser=_long, literal_parser=_long_literal)
json_scalar = ScalarType("JSON", serializer=msgspec.to_builtins)


# Models

query = QueryType()


@query.field("availableModels")
async def available_models(_: Any, info: Info) -> dict[str, Any]:
    """The names that a message may have as its model."""
    chat = info.context.chat

    async def find() -> dict[str, Any]:
        lists = await chat.aggregator.lists()
        prefixes = [one.prefix for one in chat.registry.get_all_providers()]
        default = chat.configuration.current.default_provider
        names = [_name(one, default, prefixes) for one in lists.models]
        unavailable = [_unavailable(name, error) for name, error in lists.errors.items()]
        return {"names": names, "count": len(names), "unavailable": unavailable}

    return await info.context.once("availableModels", find)


available_type = ObjectType("AvailableModels")


@available_type.field("models")
def model_names(found: dict[str, Any], info: Info) -> AsyncIterator[str]:
    """The names."""
    names: list[str] = found["names"]
    return info.context.cost.elements(info, names)


def _name(model: ModelInfo, default: str | None, prefixes: list[str]) -> str:
    """Without the prefix where that is the same model: clients of one provider know no prefixes."""
    if model.provider != default:
        return model.name
    prefix = next((one for one in prefixes if model.name.startswith(one)), "")
    bare = model.name.removeprefix(prefix)
    return model.name if any(bare.startswith(one) for one in prefixes) else bare


def _unavailable(name: str, error: GpuxError) -> dict[str, Any]:
    found = shown(error)
    return {"provider": name, "error": found.message, "code": found.code, "error_code": error_code(error)}


@query.field("modelInfos")
async def model_infos(
    _: Any,
    info: Info,
    search: str | None = None,
    provider: str | None = None,
    supports_vision: bool | None = None,
) -> AsyncIterator[ModelInfo]:
    """The models of all providers."""
    context = info.context
    found = await context.once(
        ("modelInfos", search, provider, supports_vision),
        lambda: context.chat.aggregator.search_models(search or "", provider=provider, supports_vision=supports_vision),
    )
    return context.cost.elements(info, found)


@query.field("model")
async def model(_: Any, info: Info, name: str) -> ModelDetails:
    """One model."""
    return await info.context.chat.aggregator.get_model_details(name)


@query.field("providers")
async def providers(_: Any, info: Info) -> list[ProviderHealth]:
    """The health of all providers."""
    return await provider_states(info.context.chat)


@query.field("usage")
async def usage(
    _: Any,
    info: Info,
    provider: str | None = None,
    model: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> AsyncIterator[UsageStats]:
    """Usage statistics."""
    found = await info.context.chat.database.usage.list(
        provider=provider, model_name=model, since=_day("since", since), until=_day("until", until)
    )
    return info.context.cost.elements(info, found)


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name} is not a date", hint="Write 2026-01-31.", param=name) from None


# Conversations


@query.field("conversations")
async def conversations(_: Any, info: Info, limit: int | None = None, offset: int | None = None) -> dict[str, Any]:
    """The conversations of the caller."""
    context = info.context
    stored = context.chat.database.conversations
    most = MOST_ROWS if limit is None else _rows("limit", limit, MOST_ROWS)
    first = _rows("offset", offset or 0, 2**31)
    found = await stored.list(owner=context.owner, limit=most, offset=first)
    return {"found": found, "count": await stored.count(owner=context.owner)}


conversations_type = ObjectType("ConversationList")


@conversations_type.field("conversations")
def listed(found: dict[str, Any], info: Info) -> AsyncIterator[Conversation]:
    """The conversations of a list."""
    rows: list[Conversation] = found["found"]
    return info.context.cost.elements(info, rows)


@query.field("conversation")
async def conversation(_: Any, info: Info, id: str, password: str | None = None) -> Conversation:
    """One conversation."""
    return await info.context.conversation(id, password)


@query.field("messages")
async def messages(
    _: Any,
    info: Info,
    conversation_id: str,
    password: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[StoredMessage]:
    """The messages of a conversation."""
    await info.context.conversation(conversation_id, password)
    return await _messages(info, conversation_id, limit)


conversation_type = ObjectType("Conversation")


@conversation_type.field("messages")
async def messages_of(found: Conversation, info: Info, limit: int | None = None) -> AsyncIterator[StoredMessage]:
    """The messages; whoever has the conversation may read them."""
    return await _messages(info, found.id, limit)


async def _messages(info: Info, id: str, limit: int | None) -> AsyncIterator[StoredMessage]:
    most = None if limit is None else _rows("limit", limit, 2**31)
    cost = info.context.cost
    cost.add(1)  # before the database is read
    return cost.elements(info, await info.context.chat.database.conversations.messages(id, limit=most))


def _rows(name: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise UsageError(f"{name} is {value}, and must be between 0 and {most}", param=name)
    return value


message_type = ObjectType("Message")


@message_type.field("timestamp")
def timestamp(found: StoredMessage, _: Info) -> datetime:
    """Another name of ``createdAt``."""
    return found.created_at


@message_type.field("images")
def images(found: StoredMessage, _: Info) -> list[dict[str, Any]]:
    """The pictures of a message."""
    return [_image(one, found.created_at) for one in found.images]


def _image(found: StoredImage, created_at: datetime) -> dict[str, Any]:
    return {
        "id": found.id,
        "file_size": found.size,
        "mime_type": found.media_type,
        "created_at": created_at,
        "url": f"/api/images/{found.id}",
    }


# Changes

mutation = MutationType()


@mutation.field("createConversation")
async def create_conversation(_: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    """Begin a conversation."""
    context = info.context
    context.may_infer()
    llm_model, provider = await _routed(context.chat, input.get("llm_model"))
    found = await context.chat.database.conversations.create(
        id=input.get("id"),
        tab_name=input.get("tab_name") or "",
        llm_model=llm_model,
        model_provider=provider,
        system=input.get("system"),
        password=input.get("password") or None,
        owner=context.owner,
    )
    return {"message": "Conversation created successfully", "conversation": found}


@mutation.field("updateConversation")
async def update_conversation(_: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    """Change a conversation."""
    context = info.context
    context.may_infer()
    id, password = input["conversation_id"], input.get("password")
    await context.conversation(id, password)
    llm_model, provider = await _routed(context.chat, input.get("llm_model"))
    await context.chat.database.conversations.update(
        id,
        tab_name=input.get("tab_name"),
        llm_model=llm_model,
        model_provider=provider,
        system=input.get("system"),
    )
    return {
        "message": "Conversation updated successfully",
        "conversation": await context.conversation(id, password),
    }


async def _routed(chat: ChatService, name: str | None) -> tuple[str | None, str | None]:
    """A model with its prefix and its provider; a name without a provider now is kept as it is."""
    if not name:
        return None, None
    try:
        route = await chat.registry.route(name)
    except GpuxError:
        return name, None
    return route.model, route.provider.name


@mutation.field("verifyPassword")
async def verify_password(_: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    """Check the password of a conversation."""
    found = await info.context.conversation(input["conversation_id"], input["password"])
    return {"message": "Password verified successfully", "conversation_id": found.id, "tab_name": found.tab_name}


@mutation.field("deleteConversation")
async def delete_conversation(_: Any, info: Info, conversation_id: str, password: str | None = None) -> dict[str, Any]:
    """Delete a conversation."""
    context = info.context
    context.may_infer()
    await context.conversation(conversation_id, password)
    await context.chat.database.conversations.delete(conversation_id)
    return {
        "message": "Conversation deleted successfully",
        "conversation_id": conversation_id,
        "success": True,
    }


@mutation.field("deleteMessagesAfter")
async def delete_messages_after(
    _: Any,
    info: Info,
    conversation_id: str,
    message_id: str,
    inclusive: bool | None = False,
    password: str | None = None,
) -> dict[str, Any]:
    """Delete the messages after one."""
    context = info.context
    context.may_infer()
    await context.conversation(conversation_id, password)
    if not (message_id.isascii() and message_id.isdecimal() and len(message_id) < 20):
        raise UsageError(f"{message_id!r} is not the id of a message", param="messageId")
    deleted = await context.chat.database.conversations.delete_messages_after(
        conversation_id, int(message_id), inclusive=bool(inclusive)
    )
    return {"message": f"Deleted {deleted} messages", "deleted_count": deleted, "success": True}


# Answers


@mutation.field("addMessage")
async def add_message(_: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    """Store a message, and answer it if it is of the user."""
    context = info.context
    context.may_infer()
    sender = input.get("sender") or "user"
    if sender not in ("user", "llm"):
        raise UsageError(f"the sender is {sender!r}, and must be user or llm", param="sender")
    text = _text(context, input["text"])
    if sender == "user":
        return await _answered(context, text, input)
    id, llm_model = input["conversation_id"], input.get("llm_model")
    await context.conversation(id, input.get("password"))
    model, provider = await _routed(context.chat, llm_model)
    added = await context.chat.database.conversations.add_message(
        id, text, sender="llm", llm_model=model, model_provider=provider
    )
    return {"message": "Message added successfully", "llm_message": added, "llm_model": model}


def _text(context: Context, text: str) -> str:
    most = context.call.core.settings.max_text
    if len(text) > most:
        raise TooLargeError(
            f"the message has {len(text)} characters, and the server takes {most}", hint="Shorten it.", limit=most
        )
    if not text.strip():
        raise UsageError("the message is empty", hint="Write something.", param="text")
    return text


async def _answered(context: Context, text: str, input: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in (input.get("options") or {}).items() if value is not None}
    began = time.monotonic()
    session = await context.chat.sessions.begin(
        Asked(
            message=text,
            model=input.get("llm_model") or None,
            conversation_id=input["conversation_id"],
            options=checked_options(given),
            password=input.get("password"),
            owner=context.owner,
        )
    )
    error = await _error_of(session)
    stored = await _stored(context, session)
    answer = {
        "message": "Message added successfully",
        "user_message": stored.get(session.message_id),
        "llm_message": stored.get(session.answer_id),
        "llm_model": session.model,
        "model_provider": session.provider,
        "fallback": session.fallback,
        "llm_response_time": round((time.monotonic() - began) * 1000),
    }
    if error is None:
        return answer
    found = public(error)
    return {**answer, "error": found.message, "code": found.code, "error_code": error_code(error), "hint": found.hint}


async def _error_of(session: Session) -> GpuxError | None:
    """Wait for the end of an answer; why it failed. A caller who leaves ends it."""
    error = None
    async with aclosing(session.events()) as events:
        async for event in events:
            if isinstance(event, Failed):
                error = event.error
    return error


async def _stored(context: Context, session: Session) -> dict[int | None, StoredMessage]:
    """The message and its answer, as they are stored. An answer that is empty is left out."""
    conversations = context.chat.database.conversations
    id = session.conversation_id or ""
    wanted = {one for one in (session.message_id, session.answer_id) if one is not None}
    found: dict[int | None, StoredMessage] = {}
    for limit in (10, None):
        found = {one.id: one for one in await conversations.messages(id, limit=limit) if one.id in wanted}
        if len(found) == len(wanted):
            break
    return {key: one for key, one in found.items() if one.sender == "user" or one.text or not one.partial}


@mutation.field("terminateStream")
async def terminate_stream(
    _: Any,
    info: Info,
    input: dict[str, Any] | None = None,
    session_id: str | None = None,
    conversation_id: str | None = None,
) -> dict[str, Any]:
    """End an answer."""
    context = info.context
    context.may_infer()
    given = input or {"session_id": session_id, "conversation_id": conversation_id}
    id = given.get("session_id")
    if not id:
        raise UsageError("sessionId is missing", hint="Read it from the event `session`.", param="sessionId")
    session = next((one for one in context.chat.sessions.running() if one.id == id), None)
    ended = context.chat.sessions.terminate(id, given.get("conversation_id") or None, owner=context.owner)
    if not ended or session is None:
        problem = "there is no such answer, or it has ended"
        return {"success": False, "session_id": id, "message": "Nothing was terminated", "error": problem}
    await asyncio.wait({session.task}, timeout=ENDING)
    stored = (await _stored(context, session)).get(session.answer_id) if session.conversation_id else None
    return {
        "success": True,
        "session_id": id,
        "message": "The answer was terminated",
        "partial_response": None if stored is None else stored.text,
        "token_count": None if stored is None else stored.completion_tokens,
        "final_status": "terminated",
        "termination_reason": given.get("reason") or "requested",
    }


BINDINGS = (
    *(query, mutation, available_type, conversations_type, conversation_type, message_type),
    *(time_scalar, long_scalar, json_scalar),
)
