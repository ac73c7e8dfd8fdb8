"""Values of chat providers, as they are stored and sent: snake_case in Python, camelCase in JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Literal

import msgspec

from gpux.errors import UsageError

#: File of the conversations in gpux's folder, where no database is configured.
DATABASE_FILE = "conversations.db"
#: OpenAI's own address.
OPENAI = "https://api.openai.com/v1"

Role = Literal["system", "user", "assistant"]
#: Why an answer ended. ``stop``: the model ended it, or a stop text; ``length``: ``max_tokens`` or the context;
#: ``terminated``: the caller asked for that.
FinishReason = Literal["stop", "length", "terminated"]


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of frozen values, with ``to_dict``."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with the names that they have in JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


# What a provider is asked


class Image(Value, frozen=True, kw_only=True):
    """A picture of a message."""

    data: bytes  #: the file as it was uploaded
    media_type: str  #: ``image/png`` …, as recognized from the data


class Message(Value, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Role
    content: str
    images: tuple[Image, ...] = ()


class ChatOptions(Value, frozen=True, kw_only=True):
    """How an answer is generated; None leaves the default of the model.

    Raises:
        UsageError: a value is out of its range.
    """

    temperature: float | None = None  #: 0 chooses the most likely token
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None  #: of the answer
    stop: tuple[str, ...] = ()  #: texts that end the answer; they are not part of it
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "temperature": (0, 100),
            "top_p": (0, 1),
            "top_k": (0, 2**31 - 1),
            "min_p": (0, 1),
            "max_tokens": (1, 2**31 - 1),
            "seed": (0, 2**63 - 1),
            "presence_penalty": (-2, 2),
            "frequency_penalty": (-2, 2),
            "repetition_penalty": (0.01, 100),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is {value}, and must be between {least:,} and {most:,}", param=name)


class ChatRequest(Value, frozen=True, kw_only=True):
    """What a provider answers: a conversation that ends with a message of the user."""

    model: str  #: without the provider's prefix
    messages: tuple[Message, ...]
    options: ChatOptions = ChatOptions()


# What it answers


class Delta(Value, frozen=True, kw_only=True):
    """The next piece of an answer."""

    text: str = ""
    reasoning: str = ""  #: of models that think before they answer; not part of the answer


class Finished(Value, frozen=True, kw_only=True):
    """The end of an answer."""

    reason: FinishReason
    prompt_tokens: int | None = None  #: None: the provider does not say
    completion_tokens: int | None = None


# Models


class ModelCapabilities(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What a model can do."""

    supports_vision: bool
    supports_streaming: bool
    max_context_length: int | None = None  #: tokens of prompt and answer
    supported_languages: tuple[str, ...] | None = None  #: as the model's card names them


class ModelMetadata(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a model."""

    size: int | None = None  #: bytes on disk
    parameters: int | None = None
    architecture: str | None = None
    license: str | None = None
    last_updated: datetime | None = None


class ModelInfo(Value, frozen=True, kw_only=True):
    """One model of a provider."""

    name: str  #: with the provider's prefix: ``hf:org/name:int4``
    provider: str
    display_name: str
    description: str | None = None
    capabilities: ModelCapabilities
    metadata: ModelMetadata = ModelMetadata()


class ModelDetails(Value, frozen=True, kw_only=True):
    """One model with what only its provider knows."""

    info: ModelInfo
    details: dict[str, Any] = {}  #: JSON-able; its keys are the provider's own


# Configuration


class ModelConfig(Value, frozen=True, kw_only=True):
    """How a model is run. Values that contradict each other are an error of the configuration, not replaced."""

    model_name: str  #: with the provider's prefix
    provider: str
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "float16", "int8", "int4"] | None = None  #: None: that of the reference
    max_memory: int | None = None  #: bytes of the model's process
    enable_cache: bool = True  #: keep the caches of prompts of earlier requests
    cache_directory: str | None = None  #: of downloaded repositories
    timeout_ms: int = 300_000  #: of one answer
    retry_attempts: int = 3  #: of a load, or of a request that was not answered at all
    options: ChatOptions = ChatOptions()  #: where a request has none
    fallback_models: tuple[str, ...] = ()  #: answer in place of this one when it cannot be loaded


class ProviderConfig(Value, frozen=True, kw_only=True):
    """How a provider is used."""

    name: str
    type: str | None = None  #: name of its entry point; None: the same as ``name``
    prefix: str | None = None  #: of its models' names, with the colon; None: the default of its type
    enabled: bool = True
    priority: int = 100  #: of two providers that have a model of the same name, the lower number answers
    default_models: tuple[str, ...] = ()  #: loaded when the server starts
    max_concurrent_models: int = 2
    timeout_ms: int = 30_000  #: of a load, or of a request other than an answer
    retry_attempts: int = 3
    base_url: str | None = None  #: of the server behind it; None: the provider's default
    api_key_env: str | None = None  #: name of the variable that holds its key
    api_key_keyring: str | None = None  #: name of the entry in the system's key store that holds its key


class ChatConfiguration(Value, frozen=True, kw_only=True):
    """Everything that is configured, at one moment; sizes in bytes.

    The environment variable of each field stands in ``docs/reference/settings.md``.
    """

    providers: dict[str, ProviderConfig] = {}  #: by name, in order of their priority
    models: dict[str, ModelConfig] = {}  #: by name with the prefix
    model_defaults: dict[str, Any] = {}  #: fields of :class:`ModelConfig` for models without an entry
    default_provider: str | None = None  #: answers for names without a prefix; None: the first one that has the model
    models_path: str | None = None  #: folder with models of this machine
    cache_directory: str | None = None  #: the source cache, where ``HF_HUB_CACHE`` is not set
    max_memory: int | None = None  #: of all loaded models together; None: by the memory that is available
    max_concurrent_models: int = 2  #: loaded at the same time, of all providers
    model_load_timeout_ms: int = 30_000
    stream_timeout_ms: int = 300_000  #: of one answer
    retry_attempts: int = 3
    retry_delay_ms: int = 1000  #: before the first retry; doubled before each further one
    monitoring: bool = True  #: health checks and the cleanup of memory
    health_check_interval_ms: int = 60_000
    memory_cleanup_interval_ms: int = 300_000
    images_for_text_models: Literal["refuse", "drop"] = "refuse"  #: ``drop``: answer the text alone, and say so
    database_url: str | None = None  #: None: a file of SQLite in gpux's folder
    retention_days: int | None = None  #: after which conversations without new messages are deleted; None: never
    flush_ms: int = 250  #: between two writes of an answer that arrives


# What the router answers


class StreamMetadata(Value, frozen=True, kw_only=True):
    """About an answer; complete once its last piece has arrived."""

    token_count: int
    processing_time: float  #: seconds
    model_provider: str
    capabilities: ModelCapabilities
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    fallback: str | None = None  #: why another model, or less than the whole message, was used, in a sentence


class StreamResponse:
    """An answer that arrives in pieces.

    Args:
        provider: its name.
        model: that answers, with its prefix.
        content: the pieces; to be closed (``aclosing``) by who does not read it to its end.
        metadata: called at any time.
    """

    def __init__(self, provider: str, model: str, content: AsyncGenerator[str], metadata: Any) -> None:
        self.provider, self.model, self.content = provider, model, content
        self._metadata = metadata

    @property
    def metadata(self) -> StreamMetadata:
        """What is known so far."""
        found: StreamMetadata = self._metadata()
        return found


class ValidationResult(Value, frozen=True, kw_only=True):
    """Whether something is usable, and what is wrong with it."""

    valid: bool
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ProviderHealth(Value, frozen=True, kw_only=True):
    """The state of a provider, as the health endpoints answer it."""

    provider: str
    healthy: bool
    status: Literal["healthy", "unhealthy", "degraded", "unknown"]
    response_time: float | None = None  #: seconds of the last check
    last_checked: datetime | None = None
    error: str | None = None
    metrics: dict[str, Any] = {}
