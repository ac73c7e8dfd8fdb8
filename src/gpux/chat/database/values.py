"""Values of the database, as they are read: snake_case in Python, camelCase in JSON. Times are in UTC."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from gpux.chat.values import ModelInfo, ProviderConfig, Value

#: Who wrote a message.
Sender = Literal["user", "llm"]
#: Why an answer ended: as :data:`gpux.chat.values.FinishReason`, or ``error``.
EndReason = Literal["stop", "length", "terminated", "error"]


class Conversation(Value, frozen=True, kw_only=True):
    """A conversation without its messages."""

    id: str
    tab_name: str  #: its title
    llm_model: str | None = None  #: that answers, with the provider's prefix
    model_provider: str | None = None  #: name of the chat provider that answers
    system: str | None = None  #: the system message
    is_private: bool = False  #: it has a password
    owner: str | None = None  #: id of the key that created it; None: created without a key
    message_count: int = 0
    created_at: datetime
    updated_at: datetime  #: of the conversation or its last message


class StoredImage(Value, frozen=True, kw_only=True):
    """A picture of a message, without its data."""

    id: str  #: random, so that it cannot be guessed
    media_type: str
    size: int  #: bytes


class StoredMessage(Value, frozen=True, kw_only=True):
    """A message of a conversation; ids of later messages are greater."""

    id: int
    conversation_id: str
    text: str
    sender: Sender
    llm_model: str | None = None
    model_provider: str | None = None
    partial: bool = False  #: an answer that is in progress, or that ended before the model ended it
    has_images: bool = False
    images: tuple[StoredImage, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: EndReason | None = None  #: None: a message of the user, or an answer in progress or cut by a crash
    error: str | None = None  #: code of the error that ended the answer
    created_at: datetime


class UsageStats(Value, frozen=True, kw_only=True):
    """The answers of a model on one day (UTC)."""

    provider: str
    model_name: str
    day: date
    requests: int
    failures: int  #: of the requests, those that ended with an error
    prompt_tokens: int
    completion_tokens: int
    total_ms: int  #: sum of the times of all answers
    first_token_ms_sum: int  #: sum of the times to the first token
    first_tokens: int  #: answers that had a first token

    @property
    def mean_first_token_ms(self) -> float | None:
        """Mean time to the first token; None where no answer had one."""
        return self.first_token_ms_sum / self.first_tokens if self.first_tokens else None


class ModelRecord(Value, frozen=True, kw_only=True):
    """What a provider said of a model, and when."""

    info: ModelInfo
    updated_at: datetime


class ProviderConfigVersion(Value, frozen=True, kw_only=True):
    """The configuration of a provider from ``updated_at`` on; versions count from 1."""

    version: int
    config: ProviderConfig
    updated_at: datetime
