"""What the requests of a measurement contain: random words of a seed, or the lines of a file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpux.errors import UsageError

_TEXT = (
    "about above after again air all also animal answer any ask back because before big book both boy build but "
    "call can car change city close cold come could country cut day differ does door down draw each earth eat end "
    "even every eye face far farm father feel few find first five food form four from game girl give good great "
    "green group grow hand hard have head hear help here high home horse hot house idea keep kind know land large "
    "late learn left letter life light line list long look main make man many mean men money more most mother "
    "mountain move much music must name near need never new next night north number off often old one only open "
    "order other our over own page paper part people place plant play point question read real right river room "
    "round same school sea second see seem sentence set ship short show side sing small snow some song sound stand "
    "start state still stop story street strong study such sun table take talk ten test than that them thing think "
    "three time together town travel tree turn under until use very voice walk want war watch water way week "
    "white why wind with woman wood word work world write year young"
)
#: Short words that are one token each in most vocabularies of byte pairs.
WORDS = tuple(_TEXT.split())
_HINT = 'Write one JSON object on each line: {"prompt": "…"} or {"messages": […]}, with "max_tokens" where it differs.'


@dataclass(frozen=True)
class Prompt:
    """The input of one request."""

    content: str | list[Any]  #: a text, or the messages of a chat
    max_tokens: int | None = None  #: of this request; None: as every other one


def of_words(chance: random.Random, words: int) -> Prompt:
    """A prompt of so many random words, unlike any other one from its first words on."""
    return Prompt(" ".join(chance.choices(WORDS, k=words)))


def random_prompts(seed: int, words: int) -> Iterator[Prompt]:
    """Endless prompts of so many words; the same seed gives the same prompts."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    while True:
        yield of_words(chance, words)


def read_dataset(file: Path, *, chats: bool = True) -> list[Prompt]:
    """The prompts of a file of JSON lines: ``prompt`` or ``messages``, and optionally ``max_tokens``.

    Raises:
        UsageError: the file cannot be read, a line has another form, there is no line, or one has messages although
            ``chats`` is false.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as exc:
        raise UsageError(f"{file} cannot be read: {exc}") from exc
    found = [_prompt(line, f"line {number} of {file}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f"{file} contains no prompt", hint=_HINT)
    if not chats and any(isinstance(one.content, list) for one in found):
        raise UsageError(f"{file} has messages, which only chats take", hint='Use {"prompt": "…"} or --endpoint chat.')
    return found


def _prompt(line: str, place: str) -> Prompt:
    try:
        fields = json.loads(line)
    except ValueError as exc:
        raise UsageError(f"{place} is not JSON: {exc}", hint=_HINT) from exc
    if not isinstance(fields, dict):
        raise UsageError(f"{place} is not a JSON object", hint=_HINT)
    content, most = fields.get("prompt", fields.get("messages")), fields.get("max_tokens")
    messages = isinstance(content, list) and all(isinstance(one, dict) for one in content)
    if not content or not (messages or isinstance(content, str)):
        raise UsageError(f"{place} has neither a text as prompt nor a list of messages", hint=_HINT)
    if most is not None and (type(most) is not int or most < 1):
        raise UsageError(f"max_tokens in {place} is not a positive whole number", hint=_HINT)
    return Prompt(content, most)
