"""The chat provider of conversations and messages, partial answers, and what is known of providers and models.

A conversation whose model has no known prefix was answered by Ollama, the only provider before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_CONVERSATIONS = ("model_provider", "owner", "system")
_MESSAGES = (
    "model_provider",
    "partial",
    "has_images",
    "prompt_tokens",
    "completion_tokens",
    "finish_reason",
    "error",
)
_TABLES = ("model_metadata", "provider_configs", "provider_config_history", "model_usage_stats")
_PROVIDER = """CASE
    WHEN llm_model LIKE 'hf:%' THEN 'huggingface'
    WHEN llm_model LIKE 'openai:%' THEN 'openai'
    ELSE 'ollama' END"""


def upgrade() -> None:
    """Add the columns and tables, and fill the columns of what is there."""
    for name in _CONVERSATIONS:
        op.add_column("conversations", sa.Column(name, sa.Text))
    op.add_column("messages", sa.Column("model_provider", sa.Text))
    op.add_column("messages", sa.Column("partial", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("messages", sa.Column("has_images", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("messages", sa.Column("prompt_tokens", sa.BigInteger))
    op.add_column("messages", sa.Column("completion_tokens", sa.BigInteger))
    op.add_column("messages", sa.Column("finish_reason", sa.Text))
    op.add_column("messages", sa.Column("error", sa.Text))
    op.execute(f"UPDATE conversations SET model_provider = {_PROVIDER} WHERE llm_model IS NOT NULL")  # noqa: S608
    op.execute(
        f"UPDATE messages SET model_provider = {_PROVIDER} "  # noqa: S608
        "WHERE llm_model IS NOT NULL AND sender = 'llm'"
    )
    op.execute("UPDATE messages SET finish_reason = 'stop' WHERE sender = 'llm'")
    op.execute("UPDATE messages SET has_images = (1 = 1) WHERE id IN (SELECT message_id FROM images)")
    _create_tables()


def _create_tables() -> None:
    op.create_table(
        "model_metadata",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("capabilities", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model_name"),
    )
    op.create_table(
        "provider_configs",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        *_provider_columns(),
    )
    op.create_table(
        "provider_config_history",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        *_provider_columns(),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    sums = ("requests", "failures", "prompt_tokens", "completion_tokens", "total_ms", "first_token_ms_sum")
    op.create_table(
        "model_usage_stats",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in (*sums, "first_tokens")),
        sa.PrimaryKeyConstraint("provider", "model_name", "day"),
    )


def _provider_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("type", sa.Text),
        sa.Column("prefix", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("default_models", sa.JSON, nullable=False),
        sa.Column("max_concurrent_models", sa.Integer, nullable=False),
        sa.Column("timeout_ms", sa.BigInteger, nullable=False),
        sa.Column("retry_attempts", sa.Integer, nullable=False),
        sa.Column("base_url", sa.Text),
        sa.Column("api_key_env", sa.Text),
        sa.Column("api_key_keyring", sa.Text),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    ]


def downgrade() -> None:
    """Drop them; conversations and the texts of messages stay."""
    for table in _TABLES:
        op.drop_table(table)
    for name in _MESSAGES:
        op.drop_column("messages", name)
    for name in _CONVERSATIONS:
        op.drop_column("conversations", name)
