"""What of a conversation a model gets, where its context is too short for all of it.

The rule: system messages and the last message of the user stay. Of the turns between them, the oldest are left out,
each as a whole (a message of the user with the answers to it), until the prompt leaves room for an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gpux.chat.values import Message

#: Tokens that are kept free for an answer, where neither the request nor a quarter of the context is less.
ANSWER = 2048
#: Tokens that a chat template adds to a conversation, and to each message, at most; only an estimate that saves
#: counting them.
_TEMPLATE, _EACH = 256, 32


def room_for_answer(context: int, max_tokens: int | None) -> int:
    """Tokens of a context that the prompt leaves free: ``max_tokens`` or :data:`ANSWER`, at most a quarter of it."""
    return min(max_tokens or ANSWER, context // 4)


def turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """The messages without those of the system, in turns: each begins with a message of the user."""
    found: list[list[Message]] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "user" or not found:
            found.append([])
        found[-1].append(message)
    return [tuple(one) for one in found]


def without_oldest(messages: Sequence[Message], count: int) -> tuple[Message, ...]:
    """The messages without those of the ``count`` oldest turns."""
    dropped = {id(message) for turn in turns(messages)[:count] for message in turn}
    return tuple(message for message in messages if id(message) not in dropped)


def surely_fits(messages: Sequence[Message], tokens: int) -> bool:
    """Whether the messages have at most ``tokens`` tokens by the number of their bytes, of which a token has one."""
    size = sum(len(one.content.encode("utf-8", "replace")) + _EACH for one in messages)
    return size + _TEMPLATE <= tokens


async def fitting(
    messages: Sequence[Message], tokens: int, count: Callable[[Sequence[Message]], Awaitable[int]]
) -> tuple[Message, ...]:
    """The messages, without the oldest turns that do not fit into a number of tokens; see the module.

    Args:
        messages: of the conversation, which ends with one of the user.
        tokens: of the prompt at most.
        count: the tokens of the prompt of some messages; called a few times, and not for a short conversation.

    Returns:
        At least the messages of the system and the last turn, also where these alone do not fit.
    """
    if surely_fits(messages, tokens) or await count(messages) <= tokens:
        return tuple(messages)
    # Fewer turns have fewer tokens, so that the least number to leave out is found by halving.
    least, most = 1, max(1, len(turns(messages)) - 1)
    while least < most:
        middle = (least + most) // 2
        if await count(without_oldest(messages, middle)) <= tokens:
            most = middle
        else:
            least = middle + 1
    return without_oldest(messages, least) if len(turns(messages)) > 1 else tuple(messages)
