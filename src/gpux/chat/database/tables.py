"""The tables, as the newest revision of :mod:`gpux.chat.database.migrations` leaves them; a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
)
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite has no type of times with a zone, and stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC, without the zone for SQLite."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()
#: SQLite counts only columns of its own type INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")


def _messages_of(column: str, **options: Any) -> Column[Any]:
    return Column(column, _NUMBER, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False, **options)


conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tab_name", Text, nullable=False),
    Column("llm_model", Text),
    Column("is_private", Boolean, nullable=False),
    Column("password_hash", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("model_provider", Text),
    Column("owner", Text),
    Column("system", Text),
    Index("conversations_by_update", "updated_at"),
)

# Ids are never used again (``sqlite_autoincrement``): an answer that is still written after its message was deleted
# must not change another one.
messages = Table(
    "messages",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("conversation_id", Text, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("text", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("llm_model", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("model_provider", Text),
    Column("partial", Boolean, nullable=False, server_default=false()),
    Column("has_images", Boolean, nullable=False, server_default=false()),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("finish_reason", Text),
    Column("error", Text),
    CheckConstraint("sender IN ('user', 'llm')", name="messages_sender"),
    Index("messages_by_conversation", "conversation_id", "id"),
    sqlite_autoincrement=True,
)

images = Table(
    "images",
    metadata,
    Column("id", Text, primary_key=True),
    _messages_of("message_id"),
    Column("position", Integer, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("images_by_message", "message_id", "position"),
)

model_metadata = Table(
    "model_metadata",
    metadata,
    Column("provider", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text),
    Column("capabilities", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("provider", "model_name"),
)


def _provider_columns() -> list[Column[Any]]:
    """The columns of a provider's configuration, of its present one and of each version."""
    return [
        Column("type", Text),
        Column("prefix", Text),
        Column("enabled", Boolean, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("default_models", JSON, nullable=False),
        Column("max_concurrent_models", Integer, nullable=False),
        Column("timeout_ms", BigInteger, nullable=False),
        Column("retry_attempts", Integer, nullable=False),
        Column("base_url", Text),
        Column("api_key_env", Text),
        Column("api_key_keyring", Text),
        Column("updated_at", UtcDateTime, nullable=False),
    ]


provider_configs = Table(
    "provider_configs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    *_provider_columns(),
)

provider_config_history = Table(
    "provider_config_history",
    metadata,
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    *_provider_columns(),
    PrimaryKeyConstraint("name", "version"),
)

model_usage_stats = Table(
    "model_usage_stats",
    metadata,
    Column("provider", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("total_ms", BigInteger, nullable=False),
    Column("first_token_ms_sum", BigInteger, nullable=False),
    Column("first_tokens", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "model_name", "day"),
)
